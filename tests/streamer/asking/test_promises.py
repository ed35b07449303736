"""Whatever comes in which order: nothing seen, hidden, gone or kept out is in a list, published or asked."""

import pytest

from streamer.state.catalogue import Catalogue
from tests.benchmarks.promises import interleavings


def test_no_list_breaks_a_promise() -> None:
    checked, broken = interleavings(40)
    assert broken == []
    assert min(checked[f"asked, {kind}"] for kind in ("user", "session", "basket")) > 20
    assert checked["published"] > 1_000


def test_a_broken_promise_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that are due neither come into lists nor leave them."""
    monkeypatch.setattr(Catalogue, "flips", lambda *_: [])
    assert any("kept out" in line for line in interleavings(40)[1])
