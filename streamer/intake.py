"""From records to what an epoch takes: interactions decoded, changes of items and users, and dead letters."""

from collections.abc import Iterable

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode import InteractionDecoder, decode_item, decode_user
from consumers.records import Record, TopicPartition
from streamer.alignment import Arrival
from streamer.pipeline import EpochInput, Erasure, ItemChange, UserChange
from streamer.settings import Settings

Change = tuple[Record, ItemChange | UserChange | Erasure | DeadLetter]


class Intake:
    """Decodes the input topics of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._topic, self._users_topic = settings.interactions_topic, settings.users_topic
        self._decoder = InteractionDecoder(settings.field_map, settings.clock_skew_ms, settings.max_record_bytes)
        self._last_t: dict[TopicPartition, int] = {}

    def is_interaction(self, record: Record) -> bool:
        """Whether the record is of the interactions topic; else it is a change of an item or a user."""
        return record.topic == self._topic

    def arrival(self, record: Record, now_ms: int) -> Arrival:
        """A decoded interaction; a bad one waits at the event time of the one before it. `now_ms`: the wall clock."""
        tp = record.topic_partition
        payload = self._decoder.decode(record, now_ms)
        if not isinstance(payload, DeadLetter):
            self._last_t[tp] = payload.timestamp
        return Arrival(self._last_t.get(tp, 0), tp.partition, record.offset, payload, record)

    def change(self, record: Record) -> Change:
        """The change that a record of the items or users topic makes."""
        if record.key is None:
            return record, DeadLetter(record, Reason.BAD_ID, "there is no key")
        node = record.key.decode("utf-8", "replace")
        if record.topic == self._users_topic:
            if record.value is None:
                return record, Erasure(node, record.timestamp_ms)
            user = decode_user(record.value)
            return record, DeadLetter(record, Reason.BAD_TYPE, "this is no user") if user is None else UserChange(user)
        if record.value is None:
            return record, ItemChange(node, None)
        item = decode_item(record.value)
        if item is None:
            return record, DeadLetter(record, Reason.BAD_TYPE, "this is no item")
        return record, ItemChange(item.item_id, item)

    def epoch(self, arrivals: list[Arrival], changes: Iterable[Change], repair: bool) -> EpochInput:
        """What an epoch takes, with the positions after it."""
        epoch = EpochInput(arrivals, repair=repair)
        for arrival in arrivals:
            epoch.ends[arrival.record.topic_partition] = arrival.offset + 1
        for record, change in changes:
            epoch.ends[record.topic_partition] = record.offset + 1
            if isinstance(change, DeadLetter):
                epoch.dead.append(change)
            else:
                epoch.changes.append(change)
        return epoch
