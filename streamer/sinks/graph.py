"""What the log's input topics say, as a graph in a store (`consumers.neo4j`)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from consumers.decode_nodes import decode_item, decode_user
from consumers.log import Log, Positions
from consumers.neo4j import GraphBatch, GraphStore, Row
from consumers.records import Record
from consumers.schemas import Interaction, Item, Merge, User
from streamer.features.event_ids import id_of_record
from streamer.features.item_content import as_texts, gather_attributes
from streamer.features.topic_table import tabulate
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.epoch import Erasure, UserChange, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.runtime.topics import input_topics
from streamer.settings import Settings
from streamer.sinks.following import Sink
from streamer.state.stream_state import digest_by_name
from streamer.worker.recovery import FAR_FUTURE_MS

PLACE = re.compile(r"@(\d+)-(\d+)")  # the id of a record that has none of its own
CONTEXT = "context_"  # what the properties of an edge begin with that were in the interaction's context
_encode = msgspec.json.Encoder().encode


class GraphSink(Sink):
    """Writes interactions, items and users to a graph store, see `streamer.sinks.following.Sink`.

    Raises GraphUnavailable too.
    """

    def __init__(self, log: Log, store: GraphStore, settings: Settings) -> None:
        self._store, self._intake = store, Intake(settings)
        super().__init__(log, store, settings, input_topics(settings))

    def write(self, records: list[Record], positions: Positions, topic_ids: dict[str, str]) -> None:
        """See `Sink.write`."""
        batch = gather_batch(records, self._intake, self._settings)
        batch.positions = dict(positions)
        self._store.write(batch, topic_ids)


def gather_batch(records: list[Record], intake: Intake, settings: Settings) -> GraphBatch:
    """What a transaction writes of records, without positions. The order of a partition decides, as for the worker.

    What lay in the future when it was written is passed over: the log's clock says so, and says the same every time.
    """
    arrivals = [
        intake.arrival(record, max(record.timestamp_ms, 0) or FAR_FUTURE_MS)
        for record in records
        if intake.is_interaction(record)
    ]
    changes = [intake.change(record) for record in records if not intake.is_interaction(record)]
    epoch = epoch_input(arrivals, changes)
    batch = GraphBatch()
    interactions, batch.retractions = _edges(epoch.arrivals, settings)
    users: dict[str, Row] = {}
    items: dict[str, Row] = {}
    for change in epoch.changes:
        if isinstance(change, Erasure):
            digest = digest_by_name(change.user_id, settings.application).hex()
            batch.erased.append({"id": change.user_id, "digest": digest, "at_ms": change.at_ms})
            users.pop(change.user_id, None)
        elif isinstance(change, UserChange):
            users[change.user.user_id] = _node(change.user.user_id, change.user)
        elif change.item is None:
            batch.deleted.append({"id": change.item_id})
            items.pop(change.item_id, None)
        else:
            items[change.item_id] = _node(change.item_id, change.item)
    batch.users, batch.items, batch.interactions = list(users.values()), list(items.values()), interactions
    _merge(batch, epoch.arrivals, settings)
    return batch


def _merge(batch: GraphBatch, arrivals: Iterable[Arrival], settings: Settings) -> None:
    """Sessions that are users'. One whose user is erased later in the batch is erased too, as it would be by then."""
    erased = {row["id"]: row["at_ms"] for row in batch.erased}
    for arrival in arrivals:
        if not isinstance(merge := arrival.payload, Merge):
            continue
        at_ms = arrival.record.timestamp_ms
        digest, session = (digest_by_name(id_, settings.application).hex() for id_ in (merge.user_id, merge.merge))
        if at_ms <= erased.get(merge.user_id, -1):
            batch.erased.append({"id": merge.merge, "digest": session, "at_ms": erased[merge.user_id]})
        else:
            row = {"user": merge.user_id, "session": merge.merge, "at_ms": at_ms}
            batch.merges.append(row | {"digest": digest, "session_digest": session})


def _edges(arrivals: Iterable[Arrival], settings: Settings) -> tuple[list[Row], list[Row]]:
    """Interactions that count, each once, and retractions."""
    edges: dict[str, Row] = {}
    retractions: list[Row] = []
    retracted: set[str] = set()
    for arrival in arrivals:
        interaction, record = arrival.payload, arrival.record
        if not isinstance(interaction, Interaction):
            continue
        key = _key(interaction, record)
        if interaction.retract:
            retracted.add(key)
            edges.pop(key, None)
            older = _older_key(interaction.event_id or "", record.topic)
            own = {"user": interaction.user_id, "event_id": interaction.event_id}
            retractions.append({"key": key, "older_key": older} | own)
        elif key not in retracted:
            edges.setdefault(key, _edge(key, interaction, record, settings))
    return list(edges.values()), retractions


def _node(id_: str, known: Item | User) -> Row:
    values: Mapping[str, list[str]] = (
        gather_attributes(known) if isinstance(known, Item) else as_texts(known.attributes or {})
    )
    properties = {"id": id_, "record": _encode(known).decode()}
    if isinstance(known, Item) and known.title:
        properties["title"] = known.title
    contexts = [[kind, value] for kind, found in values.items() for value in dict.fromkeys(found)]
    return {"id": id_, "properties": properties, "contexts": contexts}


def _key(interaction: Interaction, record: Record) -> str:
    """What stands for an interaction: an event id belongs to its user."""
    user = interaction.user_id
    return f"{len(user)}:{user}:{interaction.event_id or id_of_record(record.partition, record.offset)}"


def _older_key(event_id: str, topic: str) -> str:
    """The key that an interaction of this id has in the graphs of older versions."""
    place = PLACE.fullmatch(event_id)
    return f"{topic}/{place[1]}/{place[2]}" if place else event_id


def _edge(key: str, interaction: Interaction, record: Record, settings: Settings) -> Row:
    of_context = {
        CONTEXT + name: value
        for name, value in (interaction.context or {}).items()
        if isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 1 << 63)
    }
    own_id = interaction.event_id or id_of_record(record.partition, record.offset)
    properties: dict[str, Any] = {
        "partition": record.partition, "offset": record.offset, "t": interaction.timestamp,
        "type": interaction.event_type, "value": interaction.value, "event_id": interaction.event_id,
        "session_id": interaction.session_id, **of_context,
    }  # fmt: skip
    return {
        "key": key, "older_key": _older_key(own_id, record.topic),
        "user": interaction.user_id, "item": interaction.item_id,
        "digest": digest_by_name(interaction.user_id, settings.application).hex(), "at_ms": record.timestamp_ms,
        "properties": {name: value for name, value in properties.items() if value is not None},
    }  # fmt: skip


def read_graph(store: GraphStore) -> tuple[pa.Table, list[Item], list[User]]:
    """What is in the store, as `read_topic` gives interactions and `read_items`, `read_users` records."""
    rows = []
    for edge in store.interactions():
        known = edge["properties"]
        context = {name.removeprefix(CONTEXT): value for name, value in known.items() if name.startswith(CONTEXT)}
        rows.append(
            Interaction(
                user_id=edge["user"],
                item_id=edge["item"],
                event_type=known["type"],
                timestamp=known["t"],
                event_id=known.get("event_id"),
                value=known.get("value"),
                session_id=known.get("session_id"),
                context=context,
            )
        )
    items = [decode_item(record.encode()) for record in store.records("Item")]
    users = [decode_user(record.encode()) for record in store.records("User")]
    return tabulate(rows), [i for i in items if i is not None], [u for u in users if u is not None]
