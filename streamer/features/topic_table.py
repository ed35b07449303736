"""A topic of interactions as a table, for replay: the very rows that a file would give."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from consumers.dead_letter import DeadLetter
from consumers.decode_merge import decode_merge
from consumers.files.interactions import in_time_order
from consumers.log import Log
from consumers.schemas import Interaction, Merge
from streamer.features.contexts import NAMES, as_text
from streamer.features.event_ids import id_of_record
from streamer.runtime.decoders import interaction_decoder, make_unframe
from streamer.runtime.topics import end_positions, read_records, whole
from streamer.settings import Settings

_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("timestamp", pa.int64()),
        ("event_id", pa.string()),
        ("value", pa.float64()),
        ("session_id", pa.string()),
        ("retract", pa.bool_()),
        ("reason", pa.string()),
        *((name, pa.string()) for name in NAMES),  # of the context
    ]
)


class SessionMerge(NamedTuple):
    """A session that is a user's from a row of a table on, see `consumers.schemas.Merge`."""

    row: int
    user_id: str
    session_id: str


class TopicRows(NamedTuple):
    """A topic of interactions."""

    table: pa.Table  # as `consumers.files.interactions.read_interactions` gives it
    merges: tuple[SessionMerge, ...]  # in the order of their rows


def read_topic(log: Log, topic: str, settings: Settings) -> TopicRows:
    """Every record of the topic up to its end now.

    Records of several partitions are put in time order; equal times keep the order of partition, then offset. A merge
    is no row: it holds once what lies before it in its partition, and before its `upto`, has been taken.
    Raises UnknownTopic.
    """
    decoder, unframe = interaction_decoder(settings), make_unframe(settings)
    ends = end_positions(log, topic)
    now_ms = int(time.time() * 1000)
    found: list[tuple[int, int, Interaction | DeadLetter]] = []
    merges: list[tuple[int, int, Merge]] = []
    for record in read_records(log, whole(log, topic)):
        if record.offset < ends[record.topic_partition]:
            decoded = decoder.decode(record, now_ms)
            merge = decode_merge(record, unframe) if isinstance(decoded, DeadLetter) else None
            if isinstance(merge, Merge):
                merges.append((record.partition, record.offset, merge))
            else:
                found.append((record.partition, record.offset, decoded))
    found.sort(key=lambda entry: entry[:2])
    return TopicRows(tabulate(_named(found)), _placed(merges, found))


def _placed(
    merges: Iterable[tuple[int, int, Merge]], found: Sequence[tuple[int, int, Interaction | DeadLetter]]
) -> tuple[SessionMerge, ...]:
    """Merges with the rows from which on they hold. found: what the rows are, before they are in the order of time."""
    partition, offset = (np.array([entry[n] for entry in found], np.int64) for n in (0, 1))
    last = np.iinfo(np.int64).max
    t = np.array([one.timestamp if isinstance(one, Interaction) else last for _, _, one in found], np.int64)
    row = np.empty(len(found), np.int64)
    row[np.argsort(t, kind="stable")] = np.arange(len(found))
    placed = []
    for its_partition, its_offset, merge in merges:
        before = (partition == its_partition) & (offset < its_offset)
        for name, end in merge.upto.items():
            before |= (partition == int(name)) & (offset < end)
        begins = int(row[before & (t < last)].max(initial=-1)) + 1
        placed.append(((begins, its_partition, its_offset), merge))
    placed.sort(key=lambda one: one[0])
    return tuple(SessionMerge(place[0], merge.user_id, merge.merge) for place, merge in placed)


def owned_rows(table: pa.Table, merges: Iterable[SessionMerge]) -> pa.Table:
    """The table as if each session had been its user's from the start.

    An event id is the user's whose it was: those of a session are told from the user's own.
    """
    owners: dict[str, str] = {}
    for merge in merges:
        owner = owners.get(merge.user_id, merge.user_id)
        if owner != merge.session_id and merge.session_id not in owners:
            owners[merge.session_id] = owner
            owners.update({session: owner for session, user in owners.items() if user == merge.session_id})
    if not owners:
        return table
    users, ids = table["user_id"].to_pylist(), table["event_id"].to_pylist()
    ids = [f"{len(user)}:{user}:{id_}" if id_ and user in owners else id_ for user, id_ in zip(users, ids, strict=True)]
    users = [owners.get(user, user) for user in users]
    for name, column in (("user_id", users), ("event_id", ids)):
        table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.string()))
    return table


def _named(found: list[tuple[int, int, Interaction | DeadLetter]]) -> Iterator[Interaction | DeadLetter]:
    """The interactions; one without an id has that of where it lies, if a retraction names it so."""
    taken_back = {one.event_id for _, _, one in found if isinstance(one, Interaction) and one.retract}
    for partition, offset, one in found:
        id_ = id_of_record(partition, offset)
        if isinstance(one, Interaction) and one.event_id is None and id_ in taken_back:
            one = msgspec.structs.replace(one, event_id=id_)
        yield one


def tabulate(decoded: Iterable[Interaction | DeadLetter]) -> pa.Table:
    """A table as `consumers.files.interactions.read_interactions` gives it, in time order; equal times keep theirs."""
    return in_time_order(pa.Table.from_pylist([_row(one) for one in decoded], _SCHEMA))


def _row(decoded: Any) -> dict[str, Any]:
    if isinstance(decoded, DeadLetter):
        return {"reason": str(decoded.reason)}
    context = decoded.context or {}
    own = {name: getattr(decoded, name, None) for name in _SCHEMA.names}
    return own | {name: as_text(context.get(name)) for name in NAMES}
