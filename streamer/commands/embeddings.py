"""`freshet embeddings`: which trained version workers use."""

import argparse
import json
from pathlib import Path
from typing import Any

from streamer.embeddings import OFF, current, roll_back, use, versions
from streamer.errors import UsageError

EXAMPLE = "freshet embeddings rollback embeddings"
ACTIONS = {
    "ls": "the versions, and which one is to be used",
    "use": "VERSION from now on, without a measurement first; off: none",
    "rollback": "the one before the current one from now on",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="; ".join(f"{name}: {what}" for name, what in ACTIONS.items()))
    parser.add_argument("folder", type=Path, help="of the versions, as `freshet train --out` wrote it")
    parser.add_argument("version", nargs="?", help="of use")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    folder, version = arguments.folder, arguments.version
    if (version is not None) != (arguments.action == "use"):
        raise UsageError(f"`freshet embeddings {arguments.action}` {'has no' if version else 'needs a'} version")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; `freshet train --out {folder}` makes it")
    names = [manifest["version"] for manifest in versions(folder)]
    if arguments.action == "use":
        if version != "off" and version not in names:
            raise UsageError(f"{folder} has no version {version}; it has {', '.join(names) or 'none'}")
        use(folder, OFF if version == "off" else version)
    elif arguments.action == "rollback":
        roll_back(folder)
    answer = {"current": current(folder).version or None, "versions": versions(folder)}
    print(json.dumps(answer) if arguments.json else _text(answer))
    return 0


def _text(answer: dict[str, Any]) -> str:
    lines = [
        f"{'*' if manifest['version'] == answer['current'] else ' '} {manifest['version']}  "
        f"{manifest['interactions']:,} interactions until {manifest['until_ms']}"
        for manifest in answer["versions"]
    ]
    return "\n".join(lines if answer["current"] else [*lines, "* off"])
