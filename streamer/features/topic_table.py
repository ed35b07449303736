"""A topic of interactions as a table, for replay: the very rows that a file would give."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa

from consumers.dead_letter import DeadLetter
from consumers.decode_merge import decode_merge
from consumers.files.interactions import in_time_order
from consumers.log import Log
from consumers.schemas import Interaction, Merge
from streamer.features.contexts import NAMES, as_text
from streamer.features.event_ids import id_of_record
from streamer.runtime.decoders import interaction_decoder
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


def read_topic(log: Log, topic: str, settings: Settings) -> pa.Table:
    """Every record of the topic up to its end now, as `consumers.files.interactions.read_interactions` gives rows.

    Records of several partitions are put in time order; equal times keep the order of partition, then offset.
    Raises UnknownTopic.
    """
    decoder = interaction_decoder(settings)
    ends = end_positions(log, topic)
    now_ms = int(time.time() * 1000)
    found = [
        (record.partition, record.offset, decoder.decode(record, now_ms))
        for record in read_records(log, whole(log, topic))
        if record.offset < ends[record.topic_partition]
    ]
    found = [entry for entry in found if not _says_of_merge(entry[2])]
    found.sort(key=lambda entry: entry[:2])
    return tabulate(_named(found))


def _says_of_merge(decoded: Interaction | DeadLetter) -> bool:
    """Whether it is a record of a merge, which is nothing that somebody did: the session stays one of its own here."""
    return isinstance(decoded, DeadLetter) and isinstance(decode_merge(decoded.record), Merge)


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
