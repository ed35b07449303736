"""The command line of a benchmark that makes a page of curves, stream by stream."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.records import commit, machine


def write_page(
    program: str, title: str, about: str, measure: Callable[[str, int], Iterator[str]], results: Path
) -> int:
    """Measures the streams that the command line names, and writes the page.

    Args:
        program: name of the module, as the command has it.
        about: its docstring; what comes after the first paragraph is on the page.
        measure: gives the lines of a stream, of so many events at most.
        results: the page.
    """
    parser = argparse.ArgumentParser(f"python -m tests.benchmarks.{program}")
    parser.add_argument("--streams", default="movietweetings,globo-news")
    parser.add_argument("--events", type=int, default=400_000, help="the first so many of a stream")
    parser.add_argument("--out", type=Path, default=results)
    given = parser.parse_args()
    command = f"`{parser.prog} --events {given.events}`"
    lines = [f"# {title}", "", about.split("\n\n", 1)[1].strip(), "", f"{command}, commit {commit()}, {machine()}."]
    for name in given.streams.split(","):
        for line in measure(name, given.events):
            lines.append(line)
            print(line, flush=True)
    given.out.write_text("\n".join([*lines, ""]))
    return 0
