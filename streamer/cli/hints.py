"""Messages as they are shown: on one line, and with commands, `freshet topics create`, that can be pasted.

Such a command has what the user gave to say which log.
"""

import argparse
import importlib
import re
import shlex
from collections.abc import Sequence
from functools import cache

WHERE = ("bootstrap", "log", "state", "application")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HINT = re.compile(r"`freshet (\w+)([^`]*)`")
_FLAGS = re.compile(r"(did you mean|say) (--[^;]+)")
_UNKNOWN_TOPIC = re.compile(r"there is no topic (\S+); create it with `freshet topics create`")


def printable(text: str) -> str:
    """A text on one line, without what a terminal would obey: names and types come out of files.

    >>> printable("lacks the column(s) a\\nb\\x1b[31m, é")
    'lacks the column(s) a\\\\nb\\\\x1b[31m, é'
    """
    return _CONTROLS.sub(lambda mark: mark[0].encode("unicode_escape").decode(), text)


def completed(text: str, arguments: argparse.Namespace) -> str:
    """A message whose commands have the flags of this command line that they take and do not have yet."""
    given = {name: value for name in WHERE if (value := getattr(arguments, name, None)) is not None}

    def complete(hint: re.Match[str]) -> str:
        command, rest = hint[1], hint[2]
        wanted = [name for name in given if name in taken_by(command) and f"--{name} " not in f"{rest} "]
        return f"`freshet {command}{rest}" + "".join(f" --{n} {shlex.quote(str(given[n]))}" for n in wanted) + "`"

    text = _UNKNOWN_TOPIC.sub(lambda topic: _of_topic(topic, arguments), text)
    return _HINT.sub(complete, text) if given else text


def with_whole_commands(text: str, argv: Sequence[str]) -> str:
    """A message whose `did you mean --flag …`, or `say --flag …`, is the whole command, to be pasted."""

    def whole(hint: re.Match[str]) -> str:
        choices = hint[2].split(" or --")
        commands = (f"`freshet {shlex.join(argv)} {'--' * bool(n)}{flags}`" for n, flags in enumerate(choices))
        return f"{hint[1]} " + " or ".join(commands)

    return _FLAGS.sub(whole, text)


@cache
def taken_by(command: str) -> frozenset[str]:
    """The names of a command's arguments."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"streamer.cli.commands.{command}").add_arguments(parser)
    return frozenset(action.dest for action in parser._actions)


def _of_topic(topic: re.Match[str], arguments: argparse.Namespace) -> str:
    """`topics create` makes the topics of the settings and no other one."""
    from streamer.cli.given_settings import load_settings
    from streamer.runtime.topics import topic_names

    if topic[1] in topic_names(load_settings(arguments)).values():
        return topic[0]
    return f"there is no topic {topic[1]}; see `freshet topics ls`"
