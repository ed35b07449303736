"""Counts in messages for people."""

import re
from pathlib import Path

import pytest

from consumers.counted import agreeing, counted


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 passes"), (1, "1 pass"), (2, "2 passes"), (1_000, "1,000 passes"), (-1, "-1 passes")]
)
def test_a_count_has_the_number_of_its_noun(n: int, text: str) -> None:
    assert counted(n, "pass", "passes") == text
    assert counted(n, "event") == text.replace("passes", "events").replace("pass", "event")


@pytest.mark.parametrize(
    ("verb", "of_one"), [("are", "is"), ("were", "was"), ("have", "has"), ("do", "does"), ("lie", "lies")]
)
def test_a_count_has_the_number_of_its_verb(verb: str, of_one: str) -> None:
    assert (agreeing(0, verb), agreeing(1, verb), agreeing(2, verb)) == (verb, of_one, verb)
    assert counted(1, "list", verb=verb) == f"1 list {of_one}"
    assert counted(2_000, "list", verb=verb) == f"2,000 lists {verb}"


def test_no_message_has_a_verb_of_several_behind_a_count_that_may_be_one() -> None:
    """As `{n:,} lists are`, `%d lists are` and `{counted(n, 'list')} are` have."""
    count = r"(?:\{[^{}]*:,\}|%d|\{counted\([^{}]*\)\}|\{len\([^{}]*\)\})"
    told = re.compile(
        rf"(?:{count} [a-z]+s|{{counted[^{{}}]*}}) (?:are|were|have|do|lie)\b(?! (?:over the limit|more than))"
    )
    found = [
        f"{file.name}:{n} {line.strip()}"
        for room in ("streamer", "consumers")
        for file in sorted((Path(__file__).parents[2] / room).rglob("*.py"))
        for n, line in enumerate(file.read_text().splitlines(), 1)
        if told.search(line)
    ]
    assert found == []
