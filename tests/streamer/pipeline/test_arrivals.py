"""The order across partitions: that of a plain sort, however the records come and however they are cut."""

from collections import defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from consumers.records import Record, TopicPartition
from consumers.schemas import Interaction
from streamer.pipeline.arrivals import Arrival, in_order
from streamer.worker.partition_merge import PartitionMerge


def arrival(timestamp: int, partition: int, offset: int) -> Arrival:
    record = Record("interactions", partition, offset, b"u", b"", (), 0)
    return Arrival(
        timestamp,
        partition,
        offset,
        Interaction(user_id="u", item_id="i", event_type="view", timestamp=timestamp),
        record,
    )


@st.composite
def streams(draw: st.DrawFn) -> list[Arrival]:
    """Arrivals of up to five partitions, some late, in the order of offsets within each."""
    ends: dict[int, int] = defaultdict(int)
    found = []
    for partition, timestamp in draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), max_size=60)):
        found.append(arrival(timestamp, partition, ends[partition]))
        ends[partition] += draw(st.integers(1, 3))
    return found


def sorted_plainly(arrivals: list[Arrival]) -> list[Arrival]:
    reached: dict[int, int] = defaultdict(int)
    keys = {}
    for one in arrivals:
        reached[one.partition] = max(reached[one.partition], one.timestamp)
        keys[one.partition, one.offset] = (reached[one.partition], one.partition, one.offset)
    return sorted(arrivals, key=lambda one: keys[one.partition, one.offset])


@given(streams(), st.randoms())
def test_the_order_is_that_of_a_plain_sort(arrivals: list[Arrival], random: Random) -> None:
    wanted = sorted_plainly(arrivals)
    random.shuffle(arrivals)
    assert in_order(arrivals) == wanted


@given(streams(), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=40))
def test_what_is_released_in_pieces_is_in_the_order_of_each_piece(
    arrivals: list[Arrival], steps: list[tuple[int, int]]
) -> None:
    merge, partitions = PartitionMerge(0), {TopicPartition("interactions", n) for n in range(5)}
    for tp in partitions:
        merge.open(tp)
    coming, released = iter(arrivals), list[Arrival]()
    for come, limit in [*steps, *[(100, 100)] * 3]:
        for one in [next(coming, None) for _ in range(come)]:
            if one is not None:
                merge.add(TopicPartition("interactions", one.partition), [one])
        piece = merge.release(frozenset(partitions), limit)
        assert len(piece) <= limit
        assert piece == in_order(piece)
        released += piece
    assert len(merge) == 0
    for partition in range(5):
        of_one = [one for one in arrivals if one.partition == partition]
        assert [one for one in released if one.partition == partition] == of_one


@given(streams())
def test_a_late_record_that_is_read_last_holds_nothing_up(arrivals: list[Arrival]) -> None:
    """A partition that is far ahead is not read further: what is released must not wait for what comes next of it."""
    merge, partitions = PartitionMerge(10**9), {TopicPartition("interactions", one.partition) for one in arrivals}
    for tp in partitions:
        merge.open(tp)
        merge.add(tp, [one for one in arrivals if one.partition == tp.partition])
    assert bool(merge.release(frozenset(), 100)) == bool(arrivals)
