"""`freshet checkpoint`: looks at the state on disk, takes it elsewhere, makes it anew."""

import argparse
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from consumers.counted import counted
from consumers.log import Log, StoredState
from consumers.positions import by_topic
from streamer.cli.flags import add_actions, add_json_flag, add_setting_flags, settings_of
from streamer.errors import StateUnreadable, UsageError
from streamer.ops import checkpoint_inspection as checkpoints
from streamer.ops.checkpoint_archive import read_file, read_seat, write_file
from streamer.ops.object_store import read_from, written_to
from streamer.runtime.progress import advancing, progress
from streamer.runtime.state_lock import lock_of
from streamer.runtime.topics import open_existing_log
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.ops.audit import Audit

EXAMPLE = "freshet checkpoint export state.parquet --bootstrap localhost:9092 --state freshet-state"
PAGES_A_WRITE = 10_000
ACTIONS = {
    "ls": "list what is in it",
    "verify": "check that it is whole, and that the log goes on from it; with --replay every output of it too",
    "export": "write it into one FILE",
    "import": "read it from a FILE that export wrote",
    "rebuild": "make it again from the log, without what was taken back: what was learned of that goes too",
    "rm": "remove it; the next run makes it again from the log",
}
Answer = tuple[dict[str, Any], str, int]  # for machines, for people, exit code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)
    parser.add_argument(
        "file", nargs="?",
        help="Parquet file to export to or import from: a path, or a URL of an object store such as "
        "s3://bucket/state.parquet (with the extra object-storage)",
    )  # fmt: skip
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "window", "embeddings"
    )
    parser.add_argument("--replace", action="store_true", help="import over the checkpoint that is there")
    parser.add_argument("--replay", action="store_true", help="verify: take every committed epoch again, and compare")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    if (arguments.file is None) == (arguments.action in ("export", "import")):
        raise UsageError(f"checkpoint {arguments.action} {'needs a' if arguments.file is None else 'has no'} file")
    settings = settings_of(arguments)
    action = {"ls": _ls, "verify": _verify, "export": _export, "import": _import, "rebuild": _rebuild, "rm": _rm}
    with open_existing_log(settings) as log:
        for_machines, for_people, code = action[arguments.action](log, settings, arguments)
    print(json.dumps(for_machines) if arguments.json else for_people)
    return code


def _ls(log: Log, settings: Settings, arguments: argparse.Namespace) -> Answer:
    summary = checkpoints.summarise(_stored(log, settings).pages())
    if summary is None:
        return {"checkpoint": None}, "there is no checkpoint", 0
    return _as_json(summary), _as_text(summary), 0


def _verify(log: Log, settings: Settings, arguments: argparse.Namespace) -> Answer:
    summary, wrong = checkpoints.verify(log, settings)
    answer: dict[str, Any] = {"fine": not wrong, "findings": wrong, "epoch": summary and summary.epoch}
    lines = wrong or ["there is no checkpoint" if summary is None else _whole(summary)]
    if arguments.replay:
        done = _replayed(log, settings)
        answer |= done._asdict()
        answer["fine"] = not wrong and done.is_fine()
        lines.append(done.text())
    return answer, "\n".join(lines), 0 if answer["fine"] else 1


def _whole(summary: checkpoints.Summary) -> str:
    pages = sum(group.pages for group in summary.groups)
    return f"whole: epoch {summary.epoch:,}, {counted(pages, 'page')}; the log goes on from it"


def _replayed(log: Log, settings: Settings) -> "Audit":
    from streamer.ops.audit import audit  # the kernels load where they are needed

    with progress("replay", None) as advance:
        return audit(log, settings, advance)


def _export(log: Log, settings: Settings, arguments: argparse.Namespace) -> Answer:
    stored = _stored(log, settings)
    if not next(iter(stored.pages()), None):
        raise StateUnreadable("there is no checkpoint to export; `freshet run` makes the first one")
    with progress("export", None, "pages") as advance:
        checked = checkpoints.Passage(log, settings).through(advancing(stored.pages(), advance))
        with written_to(arguments.file) as file:
            pages = write_file(checked, file, stored.seat())
            size = file.stat().st_size
    return (
        {"file": arguments.file, "pages": pages, "bytes": size},
        f"{counted(pages, 'page')} in {arguments.file}, {_mib(size)}",
        0,
    )


def _import(log: Log, settings: Settings, arguments: argparse.Namespace) -> Answer:
    """(1) The file is checked, as `export` does; (2) the old checkpoint goes, (3) the new one comes.

    The page `stream` comes last: until it is there, no checkpoint is. The seat and its secret go along: the epochs in
    the log that come after the checkpoint are those of the worker that wrote it.
    """
    with read_from(arguments.file) as file, lock_of(settings):
        stored = _stored(log, settings)
        if not arguments.replace and next(iter(stored.pages()), None):
            raise StateUnreadable("there is a checkpoint already; import over it with --replace")
        passage = checkpoints.Passage(log, settings)
        total = sum(1 for _ in passage.through(read_file(file, arguments.file)))  # (1)
        stored.clear()  # (2)
        if seat := read_seat(file):
            stored.take_seat(seat)
        if secret := passage.stream.get("erasure_key"):
            stored.take_secret(secret)
        with progress("import", total, "pages") as advance:  # (3)
            pages = iter(read_file(file, arguments.file))
            last: dict[bytes, bytes] = {}
            while part := dict(islice(pages, PAGES_A_WRITE)):
                last |= {key: part.pop(key) for key in (b"stream",) if key in part}
                stored.write(part)
                advance(len(part))
            stored.write(last)
    epoch = passage.stream["epoch"]
    return {"epoch": epoch, "pages": total}, f"epoch {epoch:,}, {counted(total, 'page')} taken in", 0


def _rebuild(log: Log, settings: Settings, arguments: argparse.Namespace) -> Answer:
    from streamer.worker.rebuild import rebuild  # the kernels load where they are needed

    with lock_of(settings), progress("rebuild", None) as advance:
        done = rebuild(log, settings, advance)
    text = (
        f"{counted(done.epochs, 'epoch')} and {counted(done.interactions, 'interaction')} taken again, "
        f"{done.taken_back:,} that were taken back left out; {counted(done.lists, 'list')} published"
    )
    return done._asdict(), text, 0


def _rm(log: Log, settings: Settings, arguments: argparse.Namespace) -> Answer:
    with lock_of(settings):
        _stored(log, settings).clear()
    return {"removed": True}, "removed; the next `freshet run` makes the state again from the log", 0


def _stored(log: Log, settings: Settings) -> StoredState:
    return log.stored_state(settings.application)


def _as_json(summary: checkpoints.Summary) -> dict[str, Any]:
    age_s = summary.age_s()
    return {
        "format": summary.format,
        "epoch": summary.epoch,
        "records": summary.records,
        "age_s": None if age_s is None else round(age_s, 1),
        "positions": by_topic(summary.positions),
        "pages": sum(group.pages for group in summary.groups),
        "bytes": sum(group.bytes for group in summary.groups),
        "groups": {group.name: {"pages": group.pages, "bytes": group.bytes} for group in summary.groups},
    }


def _as_text(summary: checkpoints.Summary) -> str:
    age_s = summary.age_s()
    lines = [
        f"epoch {summary.epoch:,}, {counted(summary.records, 'record')}, format {summary.format}, "
        + ("of unknown age" if age_s is None else f"written {age_s:,.0f} s ago"),
        *(f"goes on at {tp.topic}[{tp.partition}] {position:,}" for tp, position in sorted(summary.positions.items())),
        f"{'pages':>28} {'size':>10}",
        *(f"{group.name:<16} {group.pages:>11,} {_mib(group.bytes):>10}" for group in summary.groups),
    ]
    total = sum(group.pages for group in summary.groups), sum(group.bytes for group in summary.groups)
    return "\n".join([*lines, f"{'together':<16} {total[0]:>11,} {_mib(total[1]):>10}"])


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
