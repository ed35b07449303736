"""A command as a process that another one keeps at work: its exit code says whether starting it again may help."""

from functools import partial

from streamer.__main__ import end_with
from streamer.cli.main import main

if __name__ == "__main__":
    end_with(partial(main, told_apart=True))
