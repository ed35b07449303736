"""`python -m streamer` and the `freshet` command."""

import atexit
import io
import os
import sys
from collections.abc import Callable

from streamer.cli.main import main as cli_main


def main() -> None:
    """Entry point of the `freshet` command."""
    end_with(cli_main)


def end_with(command: Callable[[], int]) -> None:
    """Runs a command line, and ends the process with its exit code."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding shows what it can
    try:
        code = _exit_code(command)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    atexit._run_exitfuncs()  # what exporters of traces have not sent yet
    sys.stderr.flush()
    os._exit(code)  # a thread of Arrow that asks an ending interpreter for its lock aborts it: see DECISIONS.md


def _open_what_is_closed() -> None:
    """Opens /dev/null for each standard stream that whoever started this has closed.

    Else a file or a connection that is opened later gets its number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one, if no file has it yet
            setattr(sys, name, os.fdopen(opened, "w" if number else "r", closefd=False))


def _exit_code(command: Callable[[], int]) -> int:
    try:
        return command()
    except SystemExit as end:  # argparse has printed help, or what is wrong with the flags
        return int(end.code or 0)


if __name__ == "__main__":
    main()
