"""What may be wrong around a worker, found by asking: each finding with its mend."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from consumers.errors import CheckpointDamaged, LogBusy, WireError
from consumers.log import Log
from consumers.records import Record, TopicPartition
from streamer.checkpoint import Summary, summary, verify
from streamer.errors import FreshetError, StateUnreadable
from streamer.logs import state_folder, topic_specs
from streamer.settings import Settings

FREE_BYTES, MANY = 1 << 30, 100_000


class Finding(NamedTuple):
    """One thing that was looked at. `mend`: what the operator does; empty where it is fine."""

    check: str
    fine: bool
    found: str
    mend: str = ""


Check = Callable[[Log, Settings], Iterator[Finding]]


def examine(log: Log, settings: Settings) -> Iterator[Finding]:
    """Everything, one after the other; a check that cannot be made is a finding itself."""
    yield Finding("log", True, f"answers at {settings.bootstrap or settings.log or 'the default folder'}")
    for check in CHECKS:
        try:
            yield from check(log, settings)
        except (WireError, FreshetError) as error:
            yield Finding(check.__name__.strip("_"), False, str(error), "mend what this says, then run doctor again")


def _topics(log: Log, settings: Settings) -> Iterator[Finding]:
    """Whether each topic is there, cleaned up as it must be, and held for long enough."""
    have = log.topics()
    for spec in topic_specs(settings):
        topic = have.get(spec.name)
        if topic is None:
            yield Finding(f"topic {spec.name}", False, "is missing", "run `freshet topics create`")
        elif set(topic.cleanup.split(",")) != set(spec.cleanup.split(",")):
            mend = f"set its cleanup.policy to {spec.cleanup}"
            yield Finding(f"topic {spec.name}", False, f"has cleanup {topic.cleanup}", mend)
        elif spec.name in (settings.interactions_topic, settings.epochs_topic) and topic.retention_ms >= 0:
            found = f"keeps records {topic.retention_ms} ms: a state older than that cannot be recovered"
            yield Finding(f"topic {spec.name}", False, found, "set its retention.ms to -1, or keep checkpoints younger")
        else:
            yield Finding(f"topic {spec.name}", True, f"{topic.partitions} partitions, {topic.cleanup}")


def _checkpoint(log: Log, settings: Settings) -> Iterator[Finding]:
    """Whether the checkpoint is whole and fits the settings and the log."""
    try:
        held = summary(log, settings)
    except StateUnreadable:
        yield Finding("checkpoint", True, "none yet")
        return
    except LogBusy:
        yield Finding("checkpoint", True, "a worker has it open")
        return
    except CheckpointDamaged as error:
        yield Finding("checkpoint", False, str(error), "nothing: the next `freshet run` rebuilds it from the log")
        return
    wrong = verify(log, settings)
    size = sum(held.bytes.values()) / 2**20
    yield Finding("checkpoint", not wrong, "; ".join(wrong) or f"epoch {held.epoch}, {size:.1f} MiB, every page whole",
                  "set on_position_gone, or restore the topic" if wrong else "")  # fmt: skip
    yield _lag(log, settings, held)


def _lag(log: Log, settings: Settings, held: Summary) -> Finding:
    ends = log.ends(settings.interactions_topic)
    at = held.positions.get(settings.interactions_topic, {})
    lag = sum(max(end - at.get(str(p), 0), 0) for p, end in ends.items())
    mend = "start a worker, or find out why it does not keep up" if lag > MANY else ""
    return Finding("lag", lag <= MANY, f"{lag:,} interactions after the checkpoint", mend)


def _epochs(log: Log, settings: Settings) -> Iterator[Finding]:
    """Whether the epochs after the checkpoint follow one another."""
    numbers: dict[str, list[int]] = {}
    for record in _last(log, settings.epochs_topic, 1_000):
        epoch = json.loads(record.value or b"{}")
        numbers.setdefault(epoch.get("worker", ""), []).append(epoch.get("epoch", 0))
    gaps = sum(later != earlier + 1 for own in numbers.values() for earlier, later in pairwise(own))
    mend = "keep all records of this topic; export a checkpoint now" if gaps else ""
    yield Finding("epochs", not gaps, f"{sum(map(len, numbers.values()))} looked at, {gaps} gaps", mend)


def _clock(log: Log, settings: Settings) -> Iterator[Finding]:
    """Whether the newest records were written in the future, as this machine sees it."""
    now_ms = time.time() * 1000
    ahead = [record.timestamp_ms - now_ms for record in _last(log, settings.interactions_topic, 1)]
    most = max(ahead, default=0.0)
    fine = most <= 1_000
    found = f"the newest record is {most / 1000:.1f} s in the future" if not fine else "no record is in the future"
    yield Finding("clock", fine, found, "" if fine else "set the clocks of this machine and the producers by NTP")


def _disk(log: Log, settings: Settings) -> Iterator[Finding]:
    """Whether there is room for the state to grow."""
    folder = state_folder(settings)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    fine = free >= FREE_BYTES
    yield Finding(
        "disk", fine, f"{free / 2**30:.1f} GiB free at {folder}", "" if fine else "free some, or move --state"
    )


def _seat(log: Log, settings: Settings) -> Iterator[Finding]:
    """Whether the log takes a commit: on Kafka, a transaction of a seat that nobody else has."""
    committer = log.committer(f"{settings.application}-doctor")
    try:
        committer.commit([], {})
    finally:
        committer.close()
    yield Finding("commit", True, "an empty commit went through")


def _last(log: Log, topic: str, n: int) -> list[Record]:
    """Up to the last n records of each partition."""
    ends, starts = log.ends(topic), log.starts(topic)
    reader = log.reader({TopicPartition(topic, p): max(starts[p], end - n) for p, end in ends.items()})
    found: list[Record] = []
    while True:
        records = reader.read(1_000, 0.2)
        found += records
        if not records and len(reader.at_end()) == len(ends):
            reader.close()
            return found


CHECKS: tuple[Check, ...] = (_topics, _epochs, _checkpoint, _clock, _disk, _seat)
