"""From records to what an epoch takes: interactions decoded, changes of items and users, and dead letters."""

import logging

from consumers.dead_letter import DeadLetter
from consumers.decode import Node, Refused, id_of_key
from consumers.records import Record, TopicPartition
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.epoch import Change, Erasure, ItemChange, UserChange
from streamer.runtime.decoders import interaction_decoder, node_decoder
from streamer.settings import Settings

_logger = logging.getLogger(__name__)


class Intake:
    """Decodes the input topics of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._topic, self._users_topic = settings.interactions_topic, settings.users_topic
        self._decoder = interaction_decoder(settings)
        self._nodes = node_decoder(settings)
        self._warned: set[str] = set()
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
            node = id_of_key(record.key)
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

    def _warn(self, record: Record, node: Node, warnings: list[str]) -> Node:
        """Says which fields of an item or a user were left out, the first time each."""
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                _logger.warning("%s[%d] offset %d: %s", record.topic, record.partition, record.offset, warning)
        return node
