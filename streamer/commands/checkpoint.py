"""`freshet checkpoint`: looks at, checks, moves and rebuilds the checkpoint of a worker."""

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from consumers.log import Log
from streamer.cli import add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.logs import open_log_of, state_folder
from streamer.progress import progress
from streamer.settings import Settings
from streamer.state_lock import StateLock

EXAMPLE = "freshet checkpoint verify --bootstrap localhost:9092 --state freshet-state"
ACTIONS = {
    "ls": "what it holds",
    "verify": "every page, and its positions against the log; with --replay also every output since the log began",
    "export": "into one FILE",
    "import": "from a FILE that export wrote",
    "rebuild": "from the log, without anything that was taken back: what was learned of it goes too",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="; ".join(f"{name}: {what}" for name, what in ACTIONS.items()))
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="of export and import")
    add_setting_flags(parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "window")
    parser.add_argument("--replace", action="store_true", help="import: put it in the place of the one that is there")
    parser.add_argument("--replay", action="store_true", help="verify: take every committed epoch again, and compare")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if (arguments.file is None) == (arguments.action in ("export", "import")):
        raise UsageError("export and import take one FILE, the other actions none")
    with StateLock(state_folder(settings)), closing(open_log_of(settings)) as log:
        answer, fine = _act(arguments, log, settings)
    if arguments.json:
        print(json.dumps(answer))
    else:
        print("\n".join(f"{name}: {_shown(value)}" for name, value in answer.items()))
    return 0 if fine else 1


def _act(arguments: argparse.Namespace, log: Log, settings: Settings) -> tuple[dict[str, Any], bool]:
    from streamer import checkpoint

    match arguments.action:
        case "ls":
            return msgspec.to_builtins(checkpoint.summary(log, settings)), True
        case "verify":
            wrong = checkpoint.verify(log, settings)
            replayed = _replayed(log, settings) if arguments.replay else {}
            fine = not wrong and not replayed.get("lost") and not replayed.get("doubled")
            return {"fine": fine, "findings": wrong} | replayed, fine
        case "export":
            return {"pages": checkpoint.export(log, settings, arguments.file), "file": str(arguments.file)}, True
        case "import":
            return {"pages": checkpoint.import_(log, settings, arguments.file, arguments.replace)}, True
    from streamer.rebuild import rebuild

    with progress("rebuild", None) as advance:
        return rebuild(log, settings, advance)._asdict(), True


def _replayed(log: Log, settings: Settings) -> dict[str, Any]:
    from streamer.audit import audit

    with progress("replay", None) as advance:
        return audit(log, settings, advance)._asdict()


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items()) or "nothing"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
