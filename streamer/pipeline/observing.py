"""What other workers admitted enters this one's graph: observed, neither scored nor learned from nor listed.

Nothing about clock, duplicates or lateness is decided again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from consumers.records import TopicPartition
from consumers.schemas import Merge
from streamer.engine.engine import Columns
from streamer.features.event_ids import digest_event_id
from streamer.pipeline.entering import enter
from streamer.pipeline.epoch import CommittedBlock
from streamer.pipeline.event_order import OFFSET_BITS
from streamer.pipeline.observed_block import ObservedBlock, Retracted
from streamer.state.merges import WaitingMerge
from streamer.state.stream_state import StreamState
from tgn.graph import I32, I64

AT_ONCE = 500  # interactions between two looks at what else is waiting: some 2 ms


class Observed(NamedTuple):
    """What of blocks is left to do at the epoch's end."""

    events: int = 0
    retractions: Sequence[Retracted] = ()
    merges: Sequence[WaitingMerge] = ()


class _NewBlock(NamedTuple):
    """A block that reaches farther than the state."""

    partition: int
    position: int  # of the state, before it
    block: ObservedBlock


class _ObservedRows(NamedTuple):
    """Interactions [N] that count here, in the order in which they are taken."""

    columns: Columns
    partition: np.ndarray  # [N]
    offset: I64
    order_ms: I64
    event: np.ndarray


def observe(
    state: StreamState,
    blocks: Sequence[CommittedBlock],
    void: np.ndarray,
    between: Callable[[], None] | None = None,
) -> Observed:
    """Takes blocks in, each partition's in their order; what lies before the positions of the state is passed over.

    Args:
        void: uint64 numbers of events that are known to be taken back later, see `streamer.pipeline.admission`.
        between: called between two pieces of the work; it may read the state.
    """
    new = list[_NewBlock]()
    for partition, at, block in blocks:
        tp = TopicPartition(state.settings.interactions_topic, partition)
        state.observed[partition] = at + 1
        position = state.positions.get(tp, 0)
        if block.end > position:
            new.append(_NewBlock(partition, position, block))
            state.positions[tp], state.watermarks[partition] = block.end, block.clock_ms
    if not new:
        return Observed()
    rows = _counting(state, new, void)
    _remember(state, new)
    _observe(state, rows, between or (lambda: None))
    return Observed(
        len(rows.offset),
        [retracted for one in new for retracted in one.block.retractions],
        [WaitingMerge(Merge(*merge), one.partition) for one in new for merge in one.block.merges],
    )


def _counting(state: StreamState, new: Sequence[_NewBlock], void: np.ndarray) -> _ObservedRows:
    """The rows that are not taken yet, without those of users who were erased after them, and those taken back.

    They are in the order of (time reached, partition, offset), as `arrivals.merged` has records.
    """
    blocks = [one.block for one in new]
    sizes = [len(block.t) for block in blocks]
    partition, position = (np.repeat(of_each, sizes) for of_each in ([one[0] for one in new], [one[1] for one in new]))
    offset, order_ms, t, event = (
        np.concatenate(column)
        for column in zip(*((block.offset, block.order_ms, block.t, block.event) for block in blocks), strict=True)
    )
    counts = offset >= position
    if len(void):
        counts &= ~np.isin(event, void)
    if state.erased or state.erased_by_name:
        counts &= ~np.concatenate([_erased(state, one) for one in new])
    rows = np.flatnonzero(counts)
    if len({one.partition for one in new}) > 1:
        reached = np.zeros(len(t), np.int64)
        for one in {one.partition for one in new}:
            mine = rows[partition[rows] == one]
            reached[mine] = np.maximum.accumulate(t[mine])
        rows = rows[np.lexsort((offset[rows], partition[rows], reached[rows]))]
    model = state.engine.model
    columns = Columns(
        user=_nodes(model.users.encode, [(block.users, block.user) for block in blocks], counts)[rows],
        item=_nodes(model.items.encode, [(block.items, block.item) for block in blocks], counts)[rows],
        t=t[rows],
        weight=np.concatenate([block.weight for block in blocks])[rows],
        context=np.concatenate([block.context for block in blocks])[rows],
    )
    return _ObservedRows(columns, partition[rows], offset[rows], order_ms[rows], event[rows])


def _erased(state: StreamState, one: _NewBlock) -> np.ndarray:
    """[N] bool: the interactions of a block whose users were erased after them."""
    block, erased = one.block, np.zeros(len(one.block.t), bool)
    for place, user_id in enumerate(block.users):
        if (erasure := state.erasure_of(user_id)) is not None:
            at_ms, before = erasure
            is_void = (block.offset < before.get(one.partition, 0)) | (block.record_ms <= at_ms)
            erased |= is_void & (block.user == place)
    return erased


def _nodes(
    encode: Callable[[Sequence[str]], list[int]], blocks: Sequence[tuple[Sequence[str], I32]], counts: np.ndarray
) -> I32:
    """[N] the nodes of names at their places in each block; a name of no row that counts becomes no node."""
    names = [name for of_block, _ in blocks for name in of_block]
    first = np.cumsum([0, *(len(of_block) for of_block, _ in blocks[:-1])])
    place = np.concatenate([places + start for (_, places), start in zip(blocks, first.tolist(), strict=True)])
    used = np.zeros(len(names), bool)
    used[place[counts]] = True
    nodes = np.zeros(len(names), np.int32)
    nodes[used] = encode(names if used.all() else [names[n] for n in np.flatnonzero(used).tolist()])
    return np.asarray(nodes[place])


def _remember(state: StreamState, new: Sequence[_NewBlock]) -> None:
    """The event ids of blocks are taken, as they would be by their owner."""
    taken = list[bytes]()
    for _, position, block in new:
        fresh = block.digests[(block.offset >= position)[block.has_id]] if block.start < position else block.digests
        taken += fresh.tolist()
        taken += [digest_event_id(one.user_id, one.event_id) for one in block.retractions]
    state.seen_events.take_all(taken)


def _observe(state: StreamState, rows: _ObservedRows, between: Callable[[], None]) -> None:
    columns, engine, n = rows.columns, state.engine, len(rows.offset)
    _enter(state, rows)
    for first in range(0, n, AT_ONCE):
        piece = Columns(*(column[first : first + AT_ONCE] for column in columns))
        engine.observe(piece)
        between()
    engine.model.forget_published(columns.user)  # what is published of them is another worker's


def _enter(state: StreamState, rows: _ObservedRows) -> None:
    """Where lateness is allowed the places are those of the owners, else rows come after all that was taken."""
    n, none = len(rows.offset), np.zeros(0, np.int64)
    if not n:
        return
    if not state.settings.allowed_lateness_ms:
        first = state.engine.model.events
        order = np.arange(first, first + n, dtype=np.uint64)
        enter(state, rows.columns, np.full(n, state.clock_ms), order, rows.event, none)
        state.newest_place = max(state.newest_place, (state.clock_ms, first + n - 1))
        return
    order = rows.partition.astype(np.uint64) << np.uint64(OFFSET_BITS) | rows.offset.astype(np.uint64)
    by_place = np.lexsort((order, rows.order_ms))
    rank = np.argsort(by_place)
    newest_ms, newest = state.newest_place
    late = rank < np.maximum.accumulate(rank)
    late |= (rows.order_ms < newest_ms) | ((rows.order_ms == newest_ms) & (order < np.uint64(newest)))
    enter(state, rows.columns, rows.order_ms, order, rows.event, np.flatnonzero(late))
    last = by_place[-1]
    state.newest_place = max(state.newest_place, (int(rows.order_ms[last]), int(order[last])))
