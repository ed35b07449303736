"""Commands in messages, `freshet topics create`, as they can be pasted: with what the user gave to say which log."""

import argparse
import importlib
import logging
import re
import shlex
from functools import cache

WHERE = ("bootstrap", "log", "state", "application")
_HINT = re.compile(r"`freshet (\w+)([^`]*)`")
_UNKNOWN_TOPIC = re.compile(r"there is no topic (\S+); create it with `freshet topics create`")


def completed(text: str, arguments: argparse.Namespace) -> str:
    """A message whose commands have the flags of this command line that they take and do not have yet."""
    given = {name: value for name in WHERE if (value := getattr(arguments, name, None)) is not None}

    def complete(hint: re.Match[str]) -> str:
        command, rest = hint[1], hint[2]
        wanted = [name for name in given if name in taken_by(command) and f"--{name} " not in f"{rest} "]
        return f"`freshet {command}{rest}" + "".join(f" --{n} {shlex.quote(str(given[n]))}" for n in wanted) + "`"

    text = _UNKNOWN_TOPIC.sub(lambda topic: _of_topic(topic, arguments), text)
    return _HINT.sub(complete, text) if given else text


@cache
def taken_by(command: str) -> frozenset[str]:
    """The names of a command's arguments."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"streamer.cli.commands.{command}").add_arguments(parser)
    return frozenset(action.dest for action in parser._actions)


def _of_topic(topic: re.Match[str], arguments: argparse.Namespace) -> str:
    """`topics create` makes the topics of the settings and no other one."""
    from streamer.runtime.topics import topic_names
    from streamer.settings import Settings

    settings = Settings.load(**{name: getattr(arguments, name, None) for name in ("bootstrap", "log")})
    if topic[1] in topic_names(settings).values():
        return topic[0]
    return f"there is no topic {topic[1]}; see `freshet topics list`"


class HintingFormatter(logging.Formatter):
    """Completes the commands in lines of the log."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._arguments = arguments

    def format(self, record: logging.LogRecord) -> str:
        return completed(super().format(record), self._arguments)


def log_to_stderr(arguments: argparse.Namespace) -> None:
    """Says what is logged, as a command that runs for long does."""
    handler = logging.StreamHandler()
    handler.setFormatter(HintingFormatter(arguments))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
