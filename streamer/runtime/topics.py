"""The log and the topics that the settings name."""

from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from consumers.errors import LogUnavailable, TopicConflict
from consumers.log import Log, Positions
from consumers.open_log import follow_log, has_log, open_log
from consumers.records import Record, TopicPartition, TopicSpec
from streamer.runtime.signals import StopRequest, ToldToEnd
from streamer.settings import Settings

DEFAULT_LOG, DEFAULT_STATE = Path("freshet-log"), Path("freshet-state")
LEAST_RECORD_BYTES = 100_000  # the headers of a dead letter and the manifest of an epoch need that much room


def open_log_of(settings: Settings) -> Log:
    """The log of the settings: the broker, or the embedded log in a folder. Raises LogUnavailable, LogBusy."""
    exactly_once = settings.delivery == "exactly-once"
    return open_log(
        settings.bootstrap,
        settings.log or DEFAULT_LOG,
        state_folder(settings),
        settings.kafka,
        exactly_once,
        settings.group_protocol,
        settings.workers_topic,
        settings.on_log_damaged == "accept",
    )


def follow_log_of(settings: Settings, stop: StopRequest) -> Log:
    """The embedded log through whoever has it open, who is waited for. Raises ToldToEnd once `stop` is true."""
    while True:
        try:
            return follow_log(settings.log or DEFAULT_LOG)
        except LogUnavailable:
            if stop.wait(0.1):
                raise ToldToEnd from None


def create_missing(
    log: Log, settings: Settings, partitions: int | None = None, names: Collection[str] | None = None
) -> None:
    """Creates those of the topics that are not there; those that are may have as many partitions as they like.

    names: only of these; None: all.
    """
    specs = topic_specs(settings, partitions)
    there = log.topics([spec.name for spec in specs])
    log.create([spec for spec in specs if spec.name not in there and (names is None or spec.name in names)])


def whole(log: Log, *topics: str) -> dict[TopicPartition, int]:
    """The first position of every partition of these topics. Raises UnknownTopic."""
    return {TopicPartition(topic, p): start for topic in topics for p, start in log.starts(topic).items()}


def end_positions(log: Log, *topics: str) -> dict[TopicPartition, int]:
    """The position after the last record of every partition of these topics. Raises UnknownTopic."""
    return {TopicPartition(topic, p): end for topic in topics for p, end in log.ends(topic).items()}


def open_existing_log(settings: Settings) -> Log:
    """The same, for who only looks: a folder without a log is an error, not a new log. Raises LogUnavailable."""
    folder = settings.log or DEFAULT_LOG
    if not settings.bootstrap and not has_log(folder):
        raise LogUnavailable(f"there is no log in {folder}; name a folder with --log, or brokers with --bootstrap")
    return open_log_of(settings)


def read_records(log: Log, positions: Positions) -> Iterator[Record]:
    """Every record from these positions up to the log's end."""
    with log.reader(positions) as reader:
        while not reader.at_end() >= positions.keys():
            yield from reader.read(10_000, 0.2)


def output_limits(log: Log, settings: Settings) -> dict[str, int]:
    """The largest record of each topic that a worker writes to, bytes. Raises TopicConflict where one is too small."""
    shared = log.topics((settings.observed_topic, settings.model_topic))
    limits = log.record_limits((*output_topics(settings), *sorted(shared)))
    for topic, limit in limits.items():
        if limit < LEAST_RECORD_BYTES:
            raise TopicConflict(
                f"topic {topic} takes records of up to {limit} bytes: raise its max.message.bytes to "
                f"{LEAST_RECORD_BYTES} or more"
            )
    return limits


def state_folder(settings: Settings) -> Path:
    """Where a worker keeps its lock and its identity, and on Kafka its checkpoint."""
    default = DEFAULT_STATE if settings.bootstrap else (settings.log or DEFAULT_LOG) / "state"
    return settings.state or default / settings.namespace


def topic_specs(settings: Settings, partitions: int | None = None) -> list[TopicSpec]:
    """The topics of `topics.yaml` under the names of the settings.

    `partitions` replaces the number where topics.yaml has several; a topic that must have one keeps it.
    """
    specs = []
    for name, topic in _declared_topics().items():
        wide = topic["partitions"] > 1
        specs.append(
            TopicSpec(
                topic_names(settings).get(name, name),
                partitions if partitions and wide else topic["partitions"],
                topic["cleanup"],
                topic.get("retention_ms", -1),
                shared=topic.get("shared", False),
            )
        )
    return specs


def input_topics(settings: Settings) -> tuple[str, str, str]:
    """The topics that epochs take records from."""
    return settings.interactions_topic, settings.items_topic, settings.users_topic


def output_topics(settings: Settings) -> tuple[str, str, str, str]:
    """The topics that epochs write to."""
    return settings.recommendations_topic, settings.epochs_topic, settings.quality_topic, settings.dead_topic


def topic_of_surface(settings: Settings, surface: str) -> str:
    """The topic of the lists of a surface that is published beside the one that the settings name."""
    return f"{settings.recommendations_topic}.{surface}"


def published_surfaces(log: Log, settings: Settings) -> dict[str, str]:
    """Topic of lists → surface, of the surface of the settings and of those whose topics there are."""
    before = topic_of_surface(settings, "")
    beside = sorted(topic for topic in log.topic_names() if topic.startswith(before))
    return {settings.recommendations_topic: settings.surface} | {topic: topic.removeprefix(before) for topic in beside}


def topic_names(settings: Settings) -> dict[str, str]:
    """Name in topics.yaml → name in the settings."""
    return {
        "interactions": settings.interactions_topic,
        "items": settings.items_topic,
        "users": settings.users_topic,
        "recommendations": settings.recommendations_topic,
        "feedback": settings.feedback_topic,
        "quality": settings.quality_topic,
        "interactions.dead": settings.dead_topic,
        "freshet.epochs": settings.epochs_topic,
        "freshet.workers": settings.workers_topic,
        "freshet.rules": settings.rules_topic,
        "freshet.experiments": settings.experiments_topic,
        "freshet.lists": settings.lists_topic,
        "freshet.observed": settings.observed_topic,
        "freshet.model": settings.model_topic,
    }


@cache
def _declared_topics() -> dict[str, dict[str, Any]]:
    """What `topics.yaml` says, read once: each opening of a log asks, and a parse takes milliseconds."""
    declared: dict[str, dict[str, Any]] = yaml.safe_load(_topics_yaml())
    return declared


def _topics_yaml() -> str:
    """Inside an installed wheel it lies beside this module, in a checkout under deploy/."""
    packaged = files("streamer") / "topics.yaml"
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (Path(__file__).parents[2] / "deploy" / "topics.yaml").read_text("utf-8")
