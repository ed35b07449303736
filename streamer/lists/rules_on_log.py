"""The topic of rules, for whoever reads it whole or puts rules in force."""

import logging
from collections.abc import Mapping, Sequence

from consumers.log import Log
from consumers.records import Record, TopicPartition
from streamer.errors import RulesRefused
from streamer.lists.rule_records import RulesRecord, RuleVersion, read_record, write_record
from streamer.lists.rules import Rules, SurfaceExperiment
from streamer.runtime.topics import create_missing, read_records
from streamer.settings import Settings

_logger = logging.getLogger(__name__)


class RulesBySurface:
    """What the topic says of each surface, record by record."""

    def __init__(self) -> None:
        self.records: dict[str, RulesRecord] = {}
        self.unreadable: dict[str, str] = {}  # surface → why its newest record is no rules: those before stay in force

    def take(self, record: Record) -> None:
        """Takes a record; one that is no rules is said, and changes nothing."""
        surface = (record.key or b"").decode("utf-8", "replace")
        self.unreadable.pop(surface, None)
        if record.value is None:
            self.records.pop(surface, None)
            return
        try:
            self.records[surface] = read_record(record.key, record.value)
        except RulesRefused as refused:
            self.unreadable[surface] = str(refused)
            _logger.warning(
                "%s[%d] offset %d: no rules, those before stay in force: %s",
                record.topic, record.partition, record.offset, refused,
            )  # fmt: skip


def partition_of_rules(settings: Settings) -> TopicPartition:
    """Where the rules are."""
    return TopicPartition(settings.rules_topic, 0)


def read_all_rules(log: Log, settings: Settings) -> tuple[RulesBySurface, int | None]:
    """What the topic says, and the position after it; None: there is no such topic."""
    found, tp = RulesBySurface(), partition_of_rules(settings)
    if tp.topic not in log.topics([tp.topic]):
        return found, None
    position = log.starts(tp.topic)[0]
    for record in read_records(log, {tp: position}):
        found.take(record)
        position = record.offset + 1
    return found, position


def apply_rules(log: Log, settings: Settings, every: Sequence[Rules], now_ms: int) -> list[RuleVersion]:
    """Puts rules in force, one object a surface; returns those that were not yet.

    The experiment that runs on a surface stays: see `put_experiment`.
    """
    create_missing(log, settings, names=(settings.rules_topic,))
    last = read_all_rules(log, settings)[0].records
    every = [rules.model_copy(update={"experiment": _running(last.get(rules.surface))}) for rules in every]
    return _write(log, settings, every, now_ms, last)


def put_experiment(
    log: Log, settings: Settings, surface: str, experiment: SurfaceExperiment | None, now_ms: int
) -> None:
    """Has an experiment run on a surface, or none, from the next epoch on; its rules stay."""
    create_missing(log, settings, names=(settings.rules_topic,))
    last = read_all_rules(log, settings)[0].records
    rules = last[surface].now.rules if surface in last else Rules(surface=surface)
    _write(log, settings, [rules.model_copy(update={"experiment": experiment})], now_ms, last)


def _running(record: RulesRecord | None) -> SurfaceExperiment | None:
    return None if record is None else record.now.rules.experiment


def _write(
    log: Log, settings: Settings, every: Sequence[Rules], now_ms: int, last: Mapping[str, RulesRecord]
) -> list[RuleVersion]:
    records = {
        rules.surface: record
        for rules in every
        if (record := write_record(settings.rules_topic, rules, now_ms, last.get(rules.surface))) is not None
    }
    log.append(list(records.values()))
    return [RuleVersion(rules.version(), now_ms, rules) for rules in every if rules.surface in records]
