"""Of which users the log knows nothing; where bytes of an erased user may be, and when those go."""

from collections.abc import Sequence
from typing import NamedTuple

from consumers.log import Log
from consumers.records import TopicPartition, TopicSpec
from consumers.schemas import Interaction
from streamer.embeddings.registry import versions
from streamer.pipeline.ingest import Intake
from streamer.runtime.topics import read_records, state_folder, whole
from streamer.settings import Settings

DAY_MS = 24 * 3_600_000
INTERNAL = ("freshet.observed", "freshet.model", "freshet.lists")


class Residue(NamedTuple):
    """A place where bytes of an erased user may be. `kind`: topic, state, file or sink; `gone`: when they are not."""

    name: str
    kind: str
    gone: str


def unknown(log: Log, settings: Settings, users: Sequence[str]) -> list[str]:
    """Those of whom the log knows nothing: no list, no record of theirs, no interaction that no worker has taken yet.

    Interactions are asked first: who takes one meanwhile makes a list of it.
    """
    left = {user.encode(): user for user in users}
    topics = log.topics((settings.interactions_topic, settings.users_topic, settings.recommendations_topic))
    if settings.interactions_topic in topics:
        intake = Intake(settings)
        for record in read_records(log, _not_taken(log, settings)):
            interaction = intake.arrival(record, record.timestamp_ms).payload
            if isinstance(interaction, Interaction):
                left.pop(interaction.user_id.encode(), None)
    for topic in {settings.users_topic, settings.recommendations_topic} & topics.keys():
        newest = {record.key: record.value for record in read_records(log, whole(log, topic)) if record.key in left}
        left = {key: user for key, user in left.items() if newest.get(key) is None}
    return list(left.values())


def _not_taken(log: Log, settings: Settings) -> dict[TopicPartition, int]:
    """Where the interactions begin that no worker has committed."""
    topic, taken = settings.interactions_topic, log.stored_state(settings.application).positions()
    ends = log.ends(topic)
    return {
        tp: taken[tp] if tp in taken and start <= taken[tp] <= ends[tp.partition] else start
        for tp, start in whole(log, topic).items()
    }


def report(log: Log, settings: Settings) -> list[Residue]:
    """Every topic, file and sink of this application that may name a user."""
    topics = log.topics([name for name in log.topic_names() if _names_users(name, settings)])
    found = [_topic(spec, settings) for spec in topics.values()]
    found.append(
        Residue(
            f"state ({state_folder(settings)}, and those of other workers)", "state",
            "when the worker has taken the tombstone; a digest that stands for the user stays, so that no rebuild "
            "counts earlier records",
        )
    )  # fmt: skip
    found.append(Residue("lists that `serve` keeps", "state", "when it has taken the withdrawal and the tombstone"))
    found.append(Residue("what `run feedback` keeps", "state", "when it has taken the tombstone; totals stay"))
    found.append(Residue("files of `checkpoint export` and `export`", "file", "when you delete those made before"))
    if settings.embeddings is not None:
        found += [
            Residue(
                str(settings.embeddings / manifest["version"]), "file",
                "when you delete the version and train again; a worker no longer uses the user's vector",
            )
            for manifest in versions(settings.embeddings)
        ]  # fmt: skip
    found.append(Residue("Neo4j or Redis of `sink`", "sink", "when the sink has taken the tombstone"))
    return found


def _names_users(name: str, settings: Settings) -> bool:
    own = {value for field, value in settings if field.endswith("_topic")}
    own -= {settings.items_topic, settings.quality_topic}
    return name in own or name in INTERNAL or name.startswith(f"{settings.recommendations_topic}.")


def _topic(spec: TopicSpec, settings: Settings) -> Residue:
    if spec.name == settings.users_topic:
        gone = "with the next compaction; the tombstone itself some time after"
    elif spec.cleanup == "compact":
        gone = "with the next compaction after a worker has withdrawn the list"
    elif spec.retention_ms < 0:
        gone = "never: retention.ms is -1"
    else:
        gone = f"when they are {spec.retention_ms / DAY_MS:g} days old (retention.ms)"
    if spec.name == settings.epochs_topic:
        gone = f"holds a digest that stands for the user; {gone}"
    return Residue(spec.name, "topic", gone)
