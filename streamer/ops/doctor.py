"""What may be wrong around a worker, found by asking: each finding with its mend. Nobody is fenced, nothing changed;
where a file of the embedded log is damaged that is noted in its folder.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumers.counted import counted
from consumers.embedded.damage import examine_files
from consumers.embedded.mending import set_aside
from consumers.errors import CheckpointDamaged, FreshetError, SettingRefused, UnknownTopic
from consumers.kafka.probe import KafkaProbe
from consumers.log import Log
from consumers.positions import from_rows
from consumers.records import Record, TopicPartition, TopicSpec
from consumers.schemas import Interaction
from streamer.errors import StateBusy, UsageError
from streamer.ops.checkpoint_inspection import Summary, verify
from streamer.pipeline.manifest import decode_manifest
from streamer.runtime.certificate import Certificate
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.decoders import get_registry, interaction_decoder
from streamer.runtime.state_lock import StateLock
from streamer.runtime.time_units import all_like_seconds
from streamer.runtime.topics import DEFAULT_LOG, input_topics, open_log_of, read_records, state_folder, topic_specs
from streamer.settings import Settings
from streamer.worker import log_reach

FREE_BYTES, MANY, SHORT_MS = 1 << 30, 100_000, 24 * 3_600_000
COUNTED = 10_000  # fewer offsets than this are read, to tell records from the markers of transactions
LONG_OPEN_MS = 60_000  # a transaction that is open for longer is no busy producer's
EPOCHS_LOOKED_AT = 1_000
FEW_DAYS = 14  # whoever renews certificates does so earlier
SOME = 100  # of a partition


class Finding(NamedTuple):
    """One thing that was looked at. `mend`: what the operator does; empty where it is fine."""

    check: str
    fine: bool
    found: str
    mend: str = ""


class Patient(NamedTuple):
    """What is examined."""

    log: Log
    settings: Settings
    probe: KafkaProbe | None  # None: the log is embedded
    clock: Clock


Examination = Callable[[Patient], Iterator[Finding]]


def examine(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Iterator[Finding]:
    """Everything, one after the other; a check that cannot be made is a finding itself."""
    yield from _state_folder(settings)
    yield _disk("state", state_folder(settings))
    yield from _certificate(settings, clock)
    folder = settings.log or DEFAULT_LOG
    if not settings.bootstrap and not folder.exists():
        mend = "name a folder with --log, or brokers with --bootstrap; `freshet topics create` makes a new log"
        yield Finding("log", False, f"there is no log in {folder}", mend)
        return
    try:
        log = open_log_of(settings)
    except FreshetError as error:
        broker_away = settings.bootstrap and not isinstance(error, SettingRefused)
        mend = "start the broker, or mend --bootstrap and the table [kafka]" if broker_away else "do what this says"
        yield Finding("log", False, str(error), mend)
        return
    with log:
        if settings.bootstrap:
            with KafkaProbe(settings.bootstrap, settings.kafka) as probe:
                yield Finding("log", True, f"the broker at {settings.bootstrap} answers")
                yield from _examine_all(Patient(log, settings, probe, clock))
        else:
            yield Finding("log", True, f"the embedded log in {folder} is open")
            yield _disk("log", folder)
            yield from _examine_all(Patient(log, settings, None, clock))


def _examine_all(patient: Patient) -> Iterator[Finding]:
    for check in CHECKS:
        try:
            yield from check(patient)
        except UnknownTopic:
            continue  # that is a finding already
        except FreshetError as error:
            yield Finding(check.__name__.strip("_"), False, str(error), "mend what this says, then run doctor again")


# this machine


def _state_folder(settings: Settings) -> Iterator[Finding]:
    """Whether a worker can have the state folder, or has it."""
    folder = state_folder(settings)
    existing = _existing(folder)
    if not existing.is_dir() and settings.state is None and settings.bootstrap is None:
        return  # it lies in the folder of the log, which is a finding of its own
    if not existing.is_dir():
        yield Finding("state folder", False, f"{existing} is a file", "name a folder with --state, or with --log")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "state folder", False, f"{existing} cannot be written", "give this user the right, or move --state"
        )
    elif existing != folder:
        yield Finding("state folder", True, f"{folder} is not there yet")
    else:
        try:
            with StateLock(folder):
                yield Finding("state folder", True, f"{folder} is free")
        except StateBusy:
            yield Finding("state folder", True, f"a worker is at work in {folder}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _certificate(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Whether `serve` can answer HTTPS by the certificate of the settings, for which names, and for how long."""
    try:
        certificate = Certificate.from_settings(settings)
        valid = certificate and certificate.validity()
    except UsageError as error:
        yield Finding("certificate", False, str(error), "name a certificate that is valid, with its key")
        return
    if valid:
        days = (valid.until_s - clock.now_ms() / 1000) / 86_400
        found = f"for {', '.join(valid.names) or 'no name'}, {days:,.0f} more days"
        mend = "" if days > FEW_DAYS else "renew it; `serve` takes the new one by itself"
        yield Finding("certificate", days > FEW_DAYS, found, mend)


def _disk(what: str, folder: Path) -> Finding:
    """Whether there is room to grow."""
    free = shutil.disk_usage(_existing(folder)).free
    fine = free >= FREE_BYTES
    return Finding(
        f"disk of the {what}", fine, f"{free / 2**30:.1f} GiB free", "" if fine else f"free some, or move {folder}"
    )


def _log_files(patient: Patient) -> Iterator[Finding]:
    """Whether every file of the embedded log is what was written."""
    if patient.probe is None:
        found, mend = examine_files(patient.settings.log or DEFAULT_LOG)
        yield Finding("files of the log", not found, found or "every table is what was written", mend)
        for aside in set_aside(patient.settings.log or DEFAULT_LOG):
            found = f"{aside} is a damaged database that was set aside, when the log was mended"
            yield Finding("files of the log", True, f"{found}; remove it once nothing of it is missed")


def _clock(patient: Patient) -> Iterator[Finding]:
    """Whether the newest records were written in the future, as this machine sees it."""
    now_ms = patient.clock.now_ms()
    newest = _last(patient.log, patient.settings.interactions_topic, 1)
    ahead_s = max((record.timestamp_ms - now_ms for record in newest), default=0.0) / 1000
    fine = ahead_s <= 1
    found = "no record is in the future" if fine else f"the newest record is {ahead_s:.1f} s in the future"
    yield Finding("clock", fine, found, "" if fine else "set the clocks of this machine and of the producers by NTP")


def _times(patient: Patient) -> Iterator[Finding]:
    """Whether the newest interactions give their times in milliseconds."""
    settings = patient.settings
    decoder = interaction_decoder(settings)
    decoded = [decoder.decode(r, r.timestamp_ms) for r in _last(patient.log, settings.interactions_topic, SOME)]
    span = all_like_seconds(one.timestamp for one in decoded if isinstance(one, Interaction))
    if span:
        found = f"the newest interactions lie {span}: these look like seconds"
        yield Finding("times", False, found, "let the producer send epoch milliseconds")
    else:
        yield Finding("times", True, "no sign of seconds in place of milliseconds")


def _schema_registry(patient: Patient) -> Iterator[Finding]:
    """Whether the schema registry answers, where one is named."""
    settings = patient.settings
    if (registry := get_registry(settings.schema_registry, settings.schema_registry_config)) is not None:
        registry.check()
        yield Finding("schema registry", True, f"the one at {settings.schema_registry} answers")


# the broker


def _broker(patient: Patient) -> Iterator[Finding]:
    """Whether its version is one that we know to work."""
    if patient.probe:
        broker = patient.probe.broker()
        version = f"Kafka {broker.version}" if broker.version else "a version that it may not tell us"
        found = f"{version}, {broker.brokers} broker{'s' * (broker.brokers != 1)}"
        yield Finding("broker", not broker.too_old, found, "take Kafka 3.7 or newer" if broker.too_old else "")


def _rights(patient: Patient) -> Iterator[Finding]:
    """Whether we may do with topics, group and transactions what `freshet run` does."""
    probe, settings = patient.probe, patient.settings
    if probe is None:
        return
    both = {
        settings.epochs_topic,
        settings.workers_topic,
        *([settings.observed_topic, settings.model_topic] if settings.observe else []),
    }
    read = both | {*input_topics(settings), settings.rules_topic}
    written = both | {settings.recommendations_topic, settings.quality_topic, settings.dead_topic}
    rights = probe.topic_rights(read | written)
    missing = [f"READ {topic}" for topic in sorted(read & rights.keys()) if "READ" not in rights[topic]]
    missing += [f"WRITE {topic}" for topic in sorted(written & rights.keys()) if "WRITE" not in rights[topic]]
    if "READ" not in probe.group_rights(settings.application):
        missing.append(f"READ group {settings.application}")
    if missing:
        yield Finding(
            "rights", False, f"lacks {', '.join(missing)}", "add these ACLs for the user of the table [kafka]"
        )
    else:
        yield Finding("rights", True, "may read, write and join what run needs")
    if settings.delivery == "exactly-once":
        yield _transactions(probe, f"{settings.application}-doctor")


def _transactions(probe: KafkaProbe, transactional_id: str) -> Finding:
    refused = probe.may_open_transactions(transactional_id)
    if refused is None:
        return Finding("transactions", True, f"the broker takes those of {transactional_id}")
    mend = f"allow WRITE on transactional ids with the prefix {transactional_id.removesuffix('doctor')}"
    return Finding("transactions", False, refused, f"{mend}, and transaction.max.timeout.ms of 60 s or more")


# topics


def _topics(patient: Patient) -> Iterator[Finding]:
    """Whether each topic is there, cleaned up as it must be, held for long enough and in enough copies."""
    specs = topic_specs(patient.settings)
    have = patient.log.topics([spec.name for spec in specs])
    brokers = patient.probe.broker().brokers if patient.probe else 1
    copies = patient.probe.replication([spec.name for spec in specs]) if patient.probe and brokers > 1 else {}
    settings = patient.settings
    interactions = settings.interactions_topic
    lasting = (settings.interactions_topic, settings.epochs_topic, settings.observed_topic, settings.model_topic)
    for spec in specs:
        name, topic = f"topic {spec.name}", have.get(spec.name)
        if topic is None:
            yield Finding(name, False, "is missing", "run `freshet topics create`")
        elif set(topic.cleanup.split(",")) != set(spec.cleanup.split(",")):
            yield Finding(name, False, f"has cleanup {topic.cleanup}", f"set its cleanup.policy to {spec.cleanup}")
        elif spec.partitions == 1 != topic.partitions:
            yield Finding(
                name, False, f"has {counted(topic.partitions, 'partition')}", "it must have one: create it anew"
            )
        elif spec.name == settings.observed_topic and topic.partitions < _partitions_of(have, interactions):
            found = f"has {counted(topic.partitions, 'partition')}, {interactions} more: the others are not observed"
            yield Finding(name, False, found, "add the partitions to it that were added there")
        elif copies.get(spec.name, 2) < 2:
            yield Finding(
                name, False, f"has one copy on {counted(brokers, 'broker')}", "raise its replication factor to 3"
            )
        elif spec.name in lasting and 0 <= topic.retention_ms < SHORT_MS:
            found = f"keeps records {topic.retention_ms} ms: after a longer stop they are lost"
            yield Finding(name, False, found, "set its retention.ms to -1, or to days at least")
        else:
            yield Finding(
                name, True, f"{counted(topic.partitions, 'partition')}, {topic.cleanup}, {_kept(topic.retention_ms)}"
            )


def _partitions_of(have: Mapping[str, TopicSpec], topic: str) -> int:
    return have[topic].partitions if topic in have else 0


def _kept(retention_ms: int) -> str:
    if retention_ms < 0:
        return "kept for ever"
    return f"kept {retention_ms / 86_400_000:.3g} days"


def _epochs(patient: Patient) -> Iterator[Finding]:
    """Whether the epochs of each worker follow one another."""
    records = _last(patient.log, patient.settings.epochs_topic, EPOCHS_LOOKED_AT)
    epochs = [epoch for record in records if (epoch := decode_manifest(record.value)) is not None]
    numbers: dict[str, list[int]] = {}  # each worker counts its own
    for epoch in epochs:
        numbers.setdefault(epoch.worker, []).append(epoch.epoch)
    gaps = sum(later != earlier + 1 for own in numbers.values() for earlier, later in pairwise(own))
    mend = "keep all records of this topic; export the checkpoint now" if gaps else ""
    yield Finding("epochs", not gaps, f"the last {len(epochs):,} have {gaps or 'no'} gaps", mend)


# positions and state


def _positions(patient: Patient) -> Iterator[Finding]:
    """Whether the log still has what is to be taken next, and how much that is."""
    log, topic = patient.log, patient.settings.interactions_topic
    committed = log.stored_state(patient.settings.application).positions()
    starts, ends = log.starts(topic), log.ends(topic)
    at = {p: committed.get(TopicPartition(topic, p), start) for p, start in starts.items()}
    gone = [f"{topic}[{p}] {at[p]} of {starts[p]} to {ends[p]}" for p in ends if not starts[p] <= at[p] <= ends[p]]
    if gone:
        mend = 'raise the topic\'s retention; on_position_gone = "earliest" goes on with what there is'
        yield Finding("positions", False, f"committed where the log has nothing: {', '.join(gone)}", mend)
        return
    yield Finding("positions", True, "the log has what comes next" if committed else "nothing was committed yet")
    waiting = {TopicPartition(topic, p): at[p] for p in ends if at[p] < ends[p]}
    lag = sum(ends[tp.partition] - position for tp, position in waiting.items())
    if lag <= COUNTED:  # offsets count the markers of transactions too
        lag = sum(1 for _ in read_records(log, waiting)) if waiting else 0
    mend = "start a worker, or find out why it does not keep up" if lag > MANY else ""
    yield Finding("lag", lag <= MANY, f"{counted(lag, 'record')} of {topic} wait", mend)


def _reach(patient: Patient) -> Iterator[Finding]:
    """Whether the state belongs to the topics of today, and the group's offsets to the state."""
    log, settings = patient.log, patient.settings
    stored = log.stored_state(settings.application)
    try:
        page = next(iter(stored.pages(b"stream")), None)
    except CheckpointDamaged:
        return  # that is a finding of its own
    if page is None:
        return
    stream = msgspec.msgpack.decode(page[1])
    at = from_rows(stream["positions"])
    at[TopicPartition(settings.epochs_topic, 0)] = stream["manifest_position"]
    lost = log_reach.gone(settings, log_reach.bounds(log, settings), at, stream.get("topic_ids", {}))
    if lost:
        mend = 'import a checkpoint that fits, or go on with what there is: on_position_gone = "earliest"'
        yield Finding("state and topics", False, "; ".join(gone.found for gone in lost), mend)
        return
    yield Finding("state and topics", True, "the topics are those that the state was made from")
    committed = stored.positions()
    back = [
        f"{tp.topic}[{tp.partition}] {committed[tp]}, the state {at[tp]}"
        for tp in at
        if committed.get(tp, at[tp]) < at[tp]
    ]
    if back:
        mend = "nothing, `run` goes on from its state; or `freshet checkpoint rebuild` to take the whole log again"
        yield Finding("group's offsets", False, f"were set back: {', '.join(back)}", mend)


def _owners(patient: Patient) -> Iterator[Finding]:
    """Whether each partition has a worker, where there are any."""
    settings = patient.settings
    members = patient.probe.members(settings.application) if patient.probe else []
    if not members:
        return
    topic = settings.interactions_topic
    owned = {tp.partition for share in members for tp in share if tp.topic == topic}
    nobodys = sorted(patient.log.ends(topic).keys() - owned)
    found = f"{len(members)} in the group {settings.application}"
    if nobodys:
        found = f"{found}, and none has {', '.join(f'{topic}[{partition}]' for partition in nobodys)}"
        mend = "wait: a group shares them out within seconds; see what its workers say where it does not"
        yield Finding("workers", False, found, mend)
    else:
        yield Finding("workers", True, f"{found}, and each partition has one of them")


def _open_transactions(patient: Patient) -> Iterator[Finding]:
    """Whether a transaction that a producer left open holds back what was written after it."""
    settings = patient.settings
    read = (*input_topics(settings), settings.epochs_topic)
    if patient.probe is None:
        return
    now_ms = patient.clock.now_ms()
    held = [
        f"{at.topic}[{at.partition}] from offset {since.offset} on, for {(now_ms - since.timestamp_ms) / 1000:,.0f} s"
        for at, since in patient.probe.open_transactions(read).items()
        if now_ms - since.timestamp_ms > LONG_OPEN_MS
    ]
    if held:
        mend = "end its producer, or wait until the broker aborts it after the producer's transaction.timeout.ms"
        yield Finding("open transactions", False, f"one holds back {'; '.join(held)}", mend)
    else:
        yield Finding("open transactions", True, "none holds anything back")


def _checkpoint(patient: Patient) -> Iterator[Finding]:
    """Whether the checkpoint is whole, of this format, and fits the settings and the log."""
    summary, wrong = verify(patient.log, patient.settings)
    if wrong:
        yield Finding("checkpoint", False, wrong[0], "see `freshet checkpoint verify`")
    elif summary is None:
        yield Finding("checkpoint", True, "none yet")
    else:
        yield Finding("checkpoint", True, _described(summary, patient.clock))


def _described(summary: Summary, clock: Clock) -> str:
    size = sum(group.bytes for group in summary.groups) / 2**20
    age_s = summary.age_s(clock)
    age = "" if age_s is None else f", {age_s:,.0f} s old"
    return f"format {summary.format}, epoch {summary.epoch:,}, {size:,.1f} MiB{age}, every page whole"


def _last(log: Log, topic: str, n: int) -> list[Record]:
    """Up to the last n records of each partition."""
    ends, starts = log.ends(topic), log.starts(topic)
    return list(read_records(log, {TopicPartition(topic, p): max(starts[p], end - n) for p, end in ends.items()}))


CHECKS: tuple[Examination, ...] = (
    _broker,
    _log_files,
    _topics,
    _rights,
    _epochs,
    _reach,
    _positions,
    _owners,
    _open_transactions,
    _checkpoint,
    _clock,
    _times,
    _schema_registry,
)
