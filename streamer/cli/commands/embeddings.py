"""`freshet embeddings`: which trained version workers use, and what it attends to."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from consumers.counted import counted
from streamer.cli.flags import add_actions, add_json_flag, settings_of
from streamer.embeddings.attention_export import drawn, read_attention
from streamer.embeddings.registry import OFF, current, roll_back, use, versions
from streamer.errors import UsageError

EXAMPLE = "freshet embeddings rollback embeddings"
ACTIONS = {
    "ls": "list the versions, and say which one is to be used",
    "use": "use VERSION from now on, without a measurement first; off: none",
    "rollback": "use the version before the current one from now on",
    "attention": "draw what USER is made of in the current version, or the newest, of a model that has attention",
}
NAMED = {"use": "version", "attention": "user"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)
    parser.add_argument("folder", type=Path, help="folder of the versions, as `train --out` wrote it")
    parser.add_argument("name", metavar="VERSION | USER", nargs="?", help="version for use, or user for attention")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    settings_of(arguments)
    folder, name = arguments.folder, arguments.name
    if (name is not None) != (arguments.action in NAMED):
        what = NAMED.get(arguments.action, "version")
        raise UsageError(f"embeddings {arguments.action} {'has no' if name else 'needs a'} {what}")
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}; `freshet train lightgcn FILE --out {shlex.quote(str(folder))}` makes it"
        )
    known = [manifest["version"] for manifest in versions(folder)]
    if arguments.action == "use":
        if name != "off" and name not in known:
            raise UsageError(f"{folder} has no version {name}; it has {', '.join(known) or 'none'}")
        use(folder, OFF if name == "off" else name)
    elif arguments.action == "rollback":
        roll_back(folder)
    elif arguments.action == "attention":
        version = current(folder).version or next(reversed(known), "")
        neighbours = read_attention(folder / version, name)
        print(json.dumps([n._asdict() for n in neighbours]) if arguments.json else drawn(neighbours))
        return 0
    answer = {"current": current(folder).version or None, "versions": versions(folder)}
    print(json.dumps(answer) if arguments.json else _text(answer))
    return 0


def _text(answer: dict[str, Any]) -> str:
    lines = [
        f"{'*' if manifest['version'] == answer['current'] else ' '} {manifest['version']}  "
        f"{counted(manifest['interactions'], 'interaction')} until {manifest['until_ms']}"
        for manifest in answer["versions"]
    ]
    return "\n".join(lines if answer["current"] else [*lines, "* off"])
