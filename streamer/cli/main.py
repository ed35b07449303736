"""The command line: one parser, one module a command, one place where errors become exit codes."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from consumers.errors import FreshetError
from streamer.cli.hints import completed, printable, with_whole_commands
from streamer.errors import LASTING

COMMANDS = {
    "demo": "play MovieLens-100k as a live stream on the embedded log, with a page to watch",
    "run": "take interactions from the log, publish lists to it",
    "serve": "take interactions over HTTP, give out lists and server-sent events",
    "up": "do both: a worker and the front before it, on one embedded log",
    "replay": "put a file or a topic through the same engine, for evaluation",
    "evaluate": "measure what a file of lists is worth, by every measure",
    "compare": "compare two settings on one stream: the paired difference of their quality, with an interval",
    "content": "make vectors of titles, attributes and images of items, for `train --content`",
    "train": "train embeddings of users and items by a graph model, out of a file or a topic",
    "embeddings": "list trained versions, choose the one that workers use, draw what it attends to",
    "sink": "keep a Neo4j graph, or the keys of a Redis, in step with the log",
    "mcp": "offer the API as tools to assistants, by the Model Context Protocol",
    "explain": "say why an item is in a user's list, and check that it is so",
    "produce": "send a file of interactions, items or users to the log",
    "tail": "print a topic as it grows",
    "export": "write the lists of the log as a Parquet file",
    "erase": "erase users: state, lists and what follows from them; say what stays where and for how long",
    "rules": "check rules of lists, put them in force, show what they would do, go back to a version before",
    "experiment": "compare ways of making lists on shares of the users, and say what came of it",
    "topics": "create or list the topics",
    "checkpoint": "look at the state on disk, check it, take it elsewhere, make it anew",
    "plan": "say how many workers, and how much memory, disk and network a stream takes",
    "doctor": "look for what is wrong around a worker, and say how to mend it",
}
EXIT_INTERRUPTED = 130


class Command(Protocol):
    """A module of `streamer.cli.commands`."""

    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None, *, told_apart: bool = False) -> int:
    """Runs one command. Exit codes: 0 ok, 1 failed, 2 usage, 3 data refused, 130 interrupted.

    told_apart: for who starts it again: LASTING in place of 1 where that would not help.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments, unknown = parser_for(argv).parse_known_args(argv)
    if unknown:
        arguments.refuse(f"unrecognized arguments: {' '.join(unknown)}")  # with the usage of the command
    arguments.argv = argv  # for commands in messages
    try:
        return int(arguments.run(arguments))
    except FreshetError as error:
        code = LASTING if told_apart and error.exit_code == 1 and not error.may_pass else error.exit_code
        return _fail(with_whole_commands(completed(str(error), arguments), argv), code)
    except BrokenPipeError:
        raise  # whoever reads the output has seen enough: the entry point ends quietly
    except OSError as error:
        return _fail(_describe(error), FreshetError.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def parser_for(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line; only the command that runs is imported: `freshet --help` is instant."""
    parser = argparse.ArgumentParser(prog="freshet", description="Live recommendations from an event stream.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted:
            from streamer.cli.flags import add_common_flags

            module = cast(Command, importlib.import_module(f"streamer.cli.commands.{name}"))
            sub.epilog = f"example:\n  {module.EXAMPLE}"
            module.add_arguments(sub)
            add_common_flags(sub)
            sub.set_defaults(run=module.run, refuse=sub.error)
    return parser


class _Version(argparse.Action):
    """Prints the version of the installed distribution, which is looked up only where somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from streamer.runtime.version import installed_version

        print(f"freshet {installed_version() or '(a checkout that is not installed)'}")
        parser.exit()


def _describe(error: OSError) -> str:
    """What the system refused, and for which file."""
    if error.filename is None:
        return str(error)
    return f"{error.filename}: {(error.strerror or type(error).__name__).lower()}"


def _fail(error: str, code: int) -> int:
    print(f"freshet: {printable(error)}", file=sys.stderr)
    return code
