"""Counts in messages for people."""

import pytest

from consumers.counted import counted


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 passes"), (1, "1 pass"), (2, "2 passes"), (1_000, "1,000 passes"), (-1, "-1 passes")]
)
def test_a_count_has_the_number_of_its_noun(n: int, text: str) -> None:
    assert counted(n, "pass", "passes") == text
    assert counted(n, "event") == text.replace("passes", "events").replace("pass", "event")
