"""Follows the topic of rules: what of it is not in force yet is told to the next epoch, whose manifest has the text."""

from msgspec import structs

from consumers.log import Log
from consumers.records import Record, TopicPartition
from streamer.lists.rules_on_log import RulesBySurface, partition_of_rules, read_all_rules
from streamer.pipeline.epoch import ChangedRules
from streamer.runtime.topics import topic_of_surface
from streamer.settings import Settings
from streamer.state.stream_state import StreamState


class RulesTopic:
    """Reads the whole topic first: rules that are there before a worker starts hold from its first epoch on."""

    def __init__(self, log: Log, settings: Settings, state: StreamState) -> None:
        self._log, self._settings, self._state = log, settings, state
        self._told, self._position = read_all_rules(log, settings)
        self._new = self._position is not None

    def positions(self) -> dict[TopicPartition, int]:
        """Where to read on; empty where there is no such topic."""
        return {} if self._position is None else {partition_of_rules(self._settings): self._position}

    def appeared(self) -> dict[TopicPartition, int]:
        """The same once there is a topic that was not there before."""
        if self._position is None:
            self._told, self._position = read_all_rules(self._log, self._settings)
            self._new = self._position is not None
            return self.positions()
        return {}

    def is_of(self, record: Record) -> bool:
        """Whether a record is one of this topic."""
        return record.topic == self._settings.rules_topic

    def take(self, record: Record) -> None:
        """Takes what was read."""
        self._told.take(record)
        self._new = True

    def changed(self) -> ChangedRules | None:
        """The surfaces whose rules are others than those in force; None: there are none. Says so once."""
        if not self._new:
            return None
        self._new = False
        others = _others(self._told, self._state)
        self._make_topics(others)
        return others or None

    def _make_topics(self, rules: ChangedRules) -> None:
        """Makes the topics of surfaces that are published from here on, like the one of recommendations."""
        settings = self._settings
        names = [
            topic_of_surface(settings, surface)
            for surface, record in rules.items()
            if record is not None and record["rules"].get("publish") and surface != settings.surface
        ]
        there = self._log.topics([settings.recommendations_topic, *names])
        like = there.get(settings.recommendations_topic)
        if like is not None:
            self._log.create([structs.replace(like, name=name) for name in names if name not in there])


def _others(told: RulesBySurface, state: StreamState) -> ChangedRules:
    now = {surface: record.in_force() for surface, record in told.records.items()}
    others = {surface: rules for surface, rules in now.items() if state.rules.get(surface) != rules}
    gone = state.rules.keys() - now.keys() - told.unreadable.keys()
    return {surface: others.get(surface) for surface in sorted({*others, *gone})}
