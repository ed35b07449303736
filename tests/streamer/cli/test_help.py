"""What `--help` says of each flag: what it is, in words that begin with a noun or a verb, and its default."""

import argparse
import importlib

import pytest

from streamer.cli.main import COMMANDS

FRAGMENTS = ("of", "that", "from", "the same", "(", "a ", "an ")


def flags_of(command: str) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"streamer.cli.commands.{command}").add_arguments(parser)
    return parser._actions


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_says_what_it_is_and_its_default(command: str) -> None:
    unclear = [
        f"{flag.dest}: {flag.help}"
        for flag in flags_of(command)
        if not flag.help
        or flag.help.startswith(FRAGMENTS)
        or (flag.default not in (None, False) and "default" not in flag.help)
    ]
    assert not unclear
