"""Where bytes of an erased user may be, and when those go."""

from typing import NamedTuple

from consumers.log import Log
from consumers.records import TopicSpec
from streamer.embeddings.registry import versions
from streamer.runtime.topics import state_folder
from streamer.settings import Settings

DAY_MS = 24 * 3_600_000
INTERNAL = ("freshet.observed", "freshet.model", "freshet.lists")


class Residue(NamedTuple):
    """A place where bytes of an erased user may be. `kind`: topic, state, file or sink; `gone`: when they are not."""

    name: str
    kind: str
    gone: str


def report(log: Log, settings: Settings) -> list[Residue]:
    """Every topic, file and sink of this application that may name a user."""
    topics = log.topics()
    found = [_topic(spec, settings) for name, spec in topics.items() if _names_users(name, settings)]
    found.append(
        Residue(
            f"state ({state_folder(settings)}, and those of other workers)", "state",
            "when the worker has taken the tombstone; a digest that stands for the user stays, so that no rebuild "
            "counts earlier records",
        )
    )  # fmt: skip
    found.append(Residue("lists that `serve` keeps", "state", "when it has taken the withdrawal and the tombstone"))
    found.append(Residue("files of `checkpoint export`", "file", "when you delete those made before"))
    if settings.embeddings is not None:
        found += [
            Residue(
                str(settings.embeddings / manifest["version"]), "file",
                "when you delete the version and train again; a worker no longer uses the user's vector",
            )
            for manifest in versions(settings.embeddings)
        ]  # fmt: skip
    found.append(Residue("Neo4j of `sink`", "sink", "when the sink has taken the tombstone"))
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
