"""What can go wrong, what the operator can do about each, and with which exit code it ends a command.

The root is here, since every package that raises these imports this one; those of the process are in `streamer.errors`.

FreshetError                the root; exit 1: it failed
├── Transient               opening again mends it, so `streamer.runtime.supervisor` does; those with * are of it too
└── WireError               of the log, a file or a store beside it
    ├── LogUnavailable *    the broker or the embedded log cannot be reached or opened
    │   ├── LogBusy *       another process owns the embedded log and does not answer
    │   ├── OwnerGone *     the process that had the embedded log open has ended
    │   └── DamageMet *     a file of the embedded log is not what was written; who opens it next mends it, or says more
    ├── LogDamaged          records of the embedded log, or what it cannot do without, are lost
    ├── RegistryUnavailable * the schema registry cannot be reached, or refuses
    ├── GraphUnavailable *  the graph store cannot be reached, or refuses
    ├── RedisUnavailable *  the Redis of a sink cannot be reached, or refuses
    ├── CheckpointDamaged * a page of the checkpoint is not what was written
    ├── RecordRefused *     a topic does not take a record, and would not take it the next time
    ├── UnknownTopic        the topic does not exist
    ├── TopicConflict       the topic exists with other settings
    ├── PositionGone        a position to read from is no longer (or not yet) in the log
    ├── Fenced              another process took over this application's seat
    ├── SettingRefused      exit 2: a client does not take a key of [kafka] or [schema_registry_config]
    └── DataRefused         exit 3: a file or stream cannot be read as interactions
"""

from typing import ClassVar


class FreshetError(Exception):
    """Operator: do what the message says; it is one line."""

    exit_code: ClassVar[int] = 1
    may_pass: ClassVar[bool] = False
    """Whether it may be gone the next time, with nobody doing anything."""


class Transient(FreshetError):
    """Operator: nothing at first: a service opens again and goes on from its last commit, and says why."""

    may_pass = True


class WireError(FreshetError):
    """Operator: do what the message says: the log, a file or a store is not as it has to be."""


class LogUnavailable(WireError, Transient):
    """Operator: start the broker or check `--bootstrap` / `--log`."""


class LogBusy(LogUnavailable):
    """Operator: end the other process, or give this one its own `--log` folder."""


class OwnerGone(LogUnavailable):
    """Operator: start again; `produce`, `tail` and `serve` find who has the log open now by themselves."""


class DamageMet(LogUnavailable):
    """Operator: start again, where that does not happen by itself: the log is mended, or it is said what is lost."""


class LogDamaged(WireError):
    """Operator: restore the log's folder from a copy, or go on with what can be read: `on_log_damaged = "accept"`."""


class GraphUnavailable(WireError, Transient):
    """Operator: start Neo4j, or check its address, FRESHET_NEO4J_USER and FRESHET_NEO4J_PASSWORD."""


class RedisUnavailable(WireError, Transient):
    """Operator: start Redis, or check its address, FRESHET_REDIS_USER and FRESHET_REDIS_PASSWORD."""


class RegistryUnavailable(WireError, Transient):
    """Operator: start the schema registry, or mend `schema_registry` and its keys; no record is lost meanwhile."""


class CheckpointDamaged(WireError, Transient):
    """Operator: nothing where the log reaches back to its start; the state is then rebuilt from it."""


class RecordRefused(WireError, Transient):
    """Operator: do what the message says: raise the topic's `max.message.bytes`, or grant the right to write to it."""


class UnknownTopic(WireError):
    """Operator: run `freshet topics create`."""


class TopicConflict(WireError):
    """Operator: change the topic's settings or the settings in `topics.yaml`."""


class PositionGone(WireError):
    """Operator: raise the topic's retention, or choose where to go on with `--on-position-gone`."""


class Fenced(WireError):
    """Operator: nothing, if another worker was started on purpose; else give it its own `--state` folder."""


class SettingRefused(WireError):
    """Operator: mend the key of the table that the message names."""

    exit_code = 2


class DataRefused(WireError):
    """Operator: name the columns with `--map ours=theirs`, or mend the file."""

    exit_code = 3
