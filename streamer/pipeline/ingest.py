"""From records to what an epoch takes: interactions decoded, changes of items and users, and dead letters."""

import logging

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import Refused, id_of_key
from consumers.decode_merge import decode_merge
from consumers.decode_nodes import Node
from consumers.records import Record, TopicPartition
from consumers.schemas import Interaction, Merge
from streamer.pipeline.arrivals import Arrival, refused_merge
from streamer.pipeline.epoch import Change, Erasure, ItemChange, UserChange
from streamer.runtime.decoders import interaction_decoder, make_unframe, node_decoder
from streamer.settings import Settings

_logger = logging.getLogger(__name__)


class Intake:
    """Decodes the input topics of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._topic, self._users_topic = settings.interactions_topic, settings.users_topic
        self._decoder = interaction_decoder(settings)
        self._nodes = node_decoder(settings)
        self._unframe = make_unframe(settings)
        self._warned: set[str] = set()
        self._last_t: dict[TopicPartition, int] = {}

    def is_interaction(self, record: Record) -> bool:
        """Whether the record is of the interactions topic; else it is a change of an item or a user."""
        return record.topic == self._topic

    def arrival(self, record: Record, now_ms: int) -> Arrival:
        """A decoded interaction or merge; a merge and a bad one wait at the event time of the one before.

        `now_ms`: the wall clock.
        """
        return self._arrival(record, self._payload(record, now_ms))

    def refused_arrival(self, record: Record) -> Arrival:
        """A record that was refused when it was taken, for a reason of that moment; it is refused again."""
        payload = self._payload(record, 0)
        if isinstance(payload, Interaction):
            payload = unknown_then(record)
        arrival = self._arrival(record, payload)
        return refused_merge(arrival) if isinstance(payload, Merge) else arrival

    def _payload(self, record: Record, now_ms: int) -> Interaction | Merge | DeadLetter:
        payload = self._decoder.decode(record, now_ms)
        return decode_merge(record, self._unframe) or payload if isinstance(payload, DeadLetter) else payload

    def _arrival(self, record: Record, payload: Interaction | Merge | DeadLetter) -> Arrival:
        tp = record.topic_partition
        if isinstance(payload, Interaction):
            self._last_t[tp] = payload.timestamp
        return Arrival(
            timestamp=self._last_t.get(tp, 0),
            partition=tp.partition,
            offset=record.offset,
            payload=payload,
            record=record,
        )

    def change(self, record: Record) -> Change:
        """The change that a record of the items or users topic makes."""
        try:
            node = id_of_key(record.key, self._unframe)
        except Refused as refused:
            return record, DeadLetter(record, refused.reason, refused.message)
        if record.topic == self._users_topic:
            if record.value is None:
                return record, Erasure(node, record.timestamp_ms)
            user = self._nodes.user(record)
            return record, user if isinstance(user, DeadLetter) else UserChange(self._warn(record, *user))
        if record.value is None:
            return record, ItemChange(node, None)
        item = self._nodes.item(record)
        if isinstance(item, DeadLetter):
            return record, item
        return record, ItemChange(item.node.item_id, self._warn(record, *item))

    def refused_change(self, record: Record) -> Change:
        """A change that was refused when it was taken, for a reason of that moment; it is refused again."""
        return record, unknown_then(record)

    def _warn(self, record: Record, node: Node, warnings: list[str]) -> Node:
        """Says which fields of an item or a user were left out, the first time each."""
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                _logger.warning("%s[%d] offset %d: %s", record.topic, record.partition, record.offset, warning)
        return node


def unknown_then(record: Record) -> DeadLetter:
    """What a record is that was refused because its schema was not known at that moment."""
    return DeadLetter(record, Reason.UNKNOWN_SCHEMA, "its schema was not known when it was taken")
