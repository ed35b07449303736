"""What an epoch tells the other workers: a block for each of its partitions."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from consumers.records import NewRecord, Record, size_of
from streamer.engine.engine import Columns
from streamer.pipeline.admission import Admitted
from streamer.pipeline.epoch import EpochInput
from streamer.pipeline.event_order import Placed
from streamer.pipeline.observed_block import DIGEST_BYTES, Merged, ObservedBlock, encode_block
from streamer.state.stream_state import StreamState
from tgn.graph import I32, no_contexts

TOPIC_ID_HEADER = "freshet-topic-id"
_NOTHING = np.zeros(0, np.int32)
_NO_COLUMNS = Columns(_NOTHING, _NOTHING, np.zeros(0, np.int64), np.zeros(0, np.float32), no_contexts(0))


def shared_blocks(
    epoch: EpochInput, admitted: Admitted, columns: Columns | None, state: StreamState, limit: int
) -> list[NewRecord]:
    """The blocks of an epoch, of each partition that it takes records of; the positions are still those before it.

    Args:
        columns: the interactions that were admitted; None: there are none.
        limit: bytes of the largest record that the topic of blocks takes.
    """
    topic, of = state.settings.observed_topic, state.topic_ids.get(state.settings.interactions_topic, "")
    return [
        record
        for partition, block in _blocks(epoch, admitted, columns or _NO_COLUMNS, state)
        for record in _records(NewRecord(topic, None, None, ((TOPIC_ID_HEADER, of.encode()),), partition), block, limit)
    ]


def is_of_topic(record: Record, topic_id: str) -> bool:
    """Whether a block tells of the topic with this id, and not of one of its name before; older ones do not say it."""
    of = dict(record.headers).get(TOPIC_ID_HEADER, b"").decode("utf-8", "replace")
    return not of or not topic_id or of == topic_id


def _blocks(
    epoch: EpochInput, admitted: Admitted, columns: Columns, state: StreamState
) -> Iterator[tuple[int, ObservedBlock]]:
    taken = np.array([placed.arrival.partition for placed in admitted.placed], np.int32)
    for tp, end in sorted(epoch.ends.items()):
        if tp.topic != state.settings.interactions_topic or tp.partition >= epoch.shared:
            continue
        rows = np.flatnonzero(taken == tp.partition)
        block = _interactions([admitted.placed[n] for n in rows.tolist()], columns, rows, state)
        merges = (one.merge for one in admitted.merges if one.partition == tp.partition)
        yield (
            tp.partition,
            block._replace(
                start=state.positions.get(tp, 0),
                end=end,
                clock_ms=state.clock_ms,
                retractions=[retracted for partition, retracted in admitted.retractions if partition == tp.partition],
                merges=[Merged(merge.user_id, merge.merge, merge.upto) for merge in merges],
            ),
        )


def _interactions(placed: Sequence[Placed], columns: Columns, rows: np.ndarray, state: StreamState) -> ObservedBlock:
    model = state.engine.model
    users, user = _each_once(columns.user[rows])
    items, item = _each_once(columns.item[rows])
    digests = [one.digest for one in placed]
    return ObservedBlock(
        start=0,
        end=0,
        clock_ms=0,
        users=[model.users.ids[node] for node in users],
        items=[model.items.ids[node] for node in items],
        user=user,
        item=item,
        t=columns.t[rows],
        order_ms=np.array([one.order_ms for one in placed], np.int64),
        weight=columns.weight[rows],
        context=columns.context[rows],
        offset=np.array([one.arrival.offset for one in placed], np.int64),
        record_ms=np.array([one.arrival.record.timestamp_ms for one in placed], np.int64),
        event=np.array([one.event for one in placed], np.uint64),
        has_id=np.array([bool(digest) for digest in digests], bool),
        digests=np.frombuffer(b"".join(digests), f"V{DIGEST_BYTES}"),
    )


def _each_once(nodes: I32) -> tuple[list[int], I32]:
    """The nodes in the order of their first places, and [N] their places; few are found sooner so than sorted."""
    every = nodes.tolist()
    place = {node: n for n, node in enumerate(dict.fromkeys(every))}
    return list(place), np.array([place[node] for node in every], np.int32)


def _records(empty: NewRecord, block: ObservedBlock, limit: int) -> list[NewRecord]:
    """The record of a block; where it would be too large, those of its halves, in a row. empty: one without a value."""
    record, n = msgspec.structs.replace(empty, value=encode_block(block)), len(block.t)
    if size_of(record) <= limit or n < 2:
        return [record]
    middle = n // 2
    reached = int(block.offset[middle])
    first = _part(block, slice(0, middle))._replace(end=reached, retractions=(), merges=())
    rest = _part(block, slice(middle, n))._replace(start=reached)
    return _records(empty, first, limit) + _records(empty, rest, limit)


def _part(block: ObservedBlock, rows: slice) -> ObservedBlock:
    users, user = _each_once(block.user[rows])
    items, item = _each_once(block.item[rows])
    with_id = np.cumsum(block.has_id) - block.has_id
    ids = slice(int(with_id[rows.start]), int(with_id[rows.stop - 1] + block.has_id[rows.stop - 1]))
    return block._replace(
        users=[block.users[place] for place in users],
        items=[block.items[place] for place in items],
        user=user,
        item=item,
        t=block.t[rows],
        order_ms=block.order_ms[rows],
        weight=block.weight[rows],
        context=block.context[rows],
        offset=block.offset[rows],
        record_ms=block.record_ms[rows],
        event=block.event[rows],
        has_id=block.has_id[rows],
        digests=block.digests[ids],
    )
