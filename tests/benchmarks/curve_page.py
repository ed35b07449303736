"""The page that a benchmark writes; the command line of one that makes curves, stream by stream."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.benchmarks.records import commit, machine


def page_of(title: str, about: str, command: str, lines: Iterable[str]) -> str:
    """A page with its command, commit and machine. about: a docstring; what comes after its first paragraph is on it."""
    said = about.split("\n\n", 1)[1].strip()
    return "\n".join([f"# {title}", "", said, "", f"`{command}`, commit {commit()}, {machine()}.", *lines, ""])


def write_page(
    program: str, title: str, about: str, measure: Callable[[str, int], Iterator[str]], results: Path
) -> int:
    """Measures the streams that the command line names, and writes the page.

    Args:
        program: name of the module, as the command has it.
        about: its docstring, see `page_of`.
        measure: gives the lines of a stream, of so many events at most.
        results: the page.
    """
    parser = argparse.ArgumentParser(f"python -m tests.benchmarks.{program}")
    parser.add_argument("--streams", default="movietweetings,globo-news")
    parser.add_argument("--events", type=int, default=400_000, help="the first so many of a stream")
    parser.add_argument("--out", type=Path, default=results)
    given = parser.parse_args()
    lines: list[str] = []
    for name in given.streams.split(","):
        for line in measure(name, given.events):
            lines.append(line)
            print(line, flush=True)
    given.out.write_text(page_of(title, about, f"{parser.prog} --events {given.events}", lines))
    return 0
