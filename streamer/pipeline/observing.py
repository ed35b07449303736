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
from tgn.graph import I64

AT_ONCE = 500  # interactions between two looks at what else is waiting: some 2 ms


class Observed(NamedTuple):
    """What of blocks is left to do at the epoch's end."""

    events: int = 0
    retractions: Sequence[Retracted] = ()
    merges: Sequence[WaitingMerge] = ()


class _ObservedRows(NamedTuple):
    """Interactions [N] of one block that count here."""

    columns: Columns
    partition: np.ndarray  # [N]
    offset: I64
    reached: I64  # [N] the latest time of the block so far, epoch ms
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
    rows, retractions, merges = list[_ObservedRows](), list[Retracted](), list[WaitingMerge]()
    for partition, at, block in blocks:
        tp = TopicPartition(state.settings.interactions_topic, partition)
        state.observed[partition] = at + 1
        position = state.positions.get(tp, 0)
        if block.end <= position:
            continue
        rows.append(_counting(state, block, partition, position, void))
        retractions += block.retractions
        merges += [WaitingMerge(Merge(user, session, upto), partition) for user, session, upto in block.merges]
        state.positions[tp], state.watermarks[partition] = block.end, block.clock_ms
        _remember(state, block, position)
    if rows:
        _observe(state, _in_order(rows), between or (lambda: None))
    return Observed(sum(len(part.offset) for part in rows), retractions, merges)


def _counting(
    state: StreamState, block: ObservedBlock, partition: int, position: int, void: np.ndarray
) -> _ObservedRows:
    """The rows that are not taken yet, without those of users who were erased after them, and those taken back."""
    counts = (block.offset >= position) & ~np.isin(block.event, void)
    if state.erased or state.erased_by_name:
        for place, user_id in enumerate(block.users):
            if (erasure := state.erasure_of(user_id)) is not None:
                at_ms, before = erasure
                is_void = (block.offset < before.get(partition, 0)) | (block.record_ms <= at_ms)
                counts &= ~(is_void & (block.user == place))
    rows = np.flatnonzero(counts)
    model = state.engine.model
    columns = Columns(
        user=_nodes(model.users.encode, block.users, block.user[rows]),
        item=_nodes(model.items.encode, block.items, block.item[rows]),
        t=block.t[rows],
        weight=block.weight[rows],
        context=block.context[rows],
    )
    reached = np.maximum.accumulate(columns.t)
    of = np.full(len(rows), partition)
    return _ObservedRows(columns, of, block.offset[rows], reached, block.order_ms[rows], block.event[rows])


def _nodes(encode: Callable[[Sequence[str]], list[int]], names: Sequence[str], places: np.ndarray) -> np.ndarray:
    """[N] the nodes of names at these places; a name of no place becomes no node."""
    used = np.unique(places)
    nodes = np.zeros(len(names), np.int32)
    nodes[used] = encode([names[place] for place in used.tolist()])
    return np.asarray(nodes[places])


def _remember(state: StreamState, block: ObservedBlock, position: int) -> None:
    """The event ids of a block are taken, as they would be by its owner."""
    fresh = block.digests[(block.offset >= position)[block.has_id]]
    reserved = [digest_event_id(one.user_id, one.event_id) for one in block.retractions]
    state.seen_events.take_all([*fresh.tolist(), *reserved])


def _in_order(rows: Sequence[_ObservedRows]) -> _ObservedRows:
    """The rows of several blocks by (time reached, partition, offset), as `arrivals.merged` has records."""
    if len(rows) == 1:
        return rows[0]
    columns = Columns(*(np.concatenate(column) for column in zip(*(part.columns for part in rows), strict=True)))
    partition, offset, reached, order_ms, event = (
        np.concatenate(column) for column in zip(*(part[1:] for part in rows), strict=True)
    )
    for one in np.unique(partition).tolist():
        mine = partition == one
        reached[mine] = np.maximum.accumulate(reached[mine])
    order = np.lexsort((offset, partition, reached))
    return _ObservedRows(
        Columns(*(column[order] for column in columns)),
        *(column[order] for column in (partition, offset, reached, order_ms, event)),
    )


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
