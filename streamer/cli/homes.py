"""Settings that change nothing in the home that a command has chosen; one that was given all the same is said.

freshet.toml is not looked at: it is shared by commands that have different homes.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Literal

from streamer.settings import Settings, variable_of

Home = Literal["embedded", "kafka", "file"]
WITHOUT_EFFECT: dict[Home, dict[str, str]] = {  # why it has none
    "embedded": {
        "kafka": "it is for librdkafka, and events live in a folder",
        "delivery": "a commit of the embedded log is one write, exactly once",
        "group_protocol": "the embedded log has one worker an application",
        "state": "the state is in the embedded log itself",
    },
    "kafka": {
        "log": "events live on the broker",
        "on_log_damaged": "it is for files of the embedded log, and events live on the broker",
    },
    "file": dict.fromkeys(("bootstrap", "log", "state", "application"), "what is read is no topic"),
}
TAKES_STATE = ("run", "serve", "doctor", "checkpoint import", "checkpoint rebuild", "checkpoint rm")
"""Commands for which `state` counts with the embedded log too: for a lock, and for the lists that `serve` keeps."""


def say_without_effect(arguments: argparse.Namespace, settings: Settings) -> None:
    """A line on stderr for each flag and environment variable that has no effect on this command's log."""
    for line in without_effect(arguments, settings):
        print(f"freshet: warning: {line}", file=sys.stderr)


def without_effect(arguments: argparse.Namespace, settings: Settings) -> Iterator[str]:
    """Those lines; none where a command has nothing to do with a log."""
    own = vars(arguments)
    if "log" not in own:
        return
    flags = {**own.get("set", {}), **own}
    home = _home(arguments, settings)
    for name, why in WITHOUT_EFFECT[home].items():
        if name == "state" and home == "embedded" and (name not in flags or _takes_state(arguments)):
            continue
        if flags.get(name) is not None:
            flag = name.replace("_", "-") if name in own else f"set {name}"
            yield f"--{flag} has no effect: {why}"
        elif home != "file" and (variable := variable_of(name)):  # the environment is that of other commands too
            yield f"{variable} has no effect: {why}"


def _home(arguments: argparse.Namespace, settings: Settings) -> Home:
    given = getattr(arguments, "source", "")
    source = given[0] if isinstance(given, list) else str(given)
    if source and ("://" in source or not (settings.bootstrap or arguments.log)):
        return "file"
    if arguments.command == "explain" and arguments.file:
        return "file"
    return "kafka" if settings.bootstrap else "embedded"


def _takes_state(arguments: argparse.Namespace) -> bool:
    command = str(arguments.command)
    return command in TAKES_STATE or f"{command} {getattr(arguments, 'action', '')}" in TAKES_STATE
