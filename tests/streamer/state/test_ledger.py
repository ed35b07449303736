"""The ledger: what is added, edited and saved in any order is read as it was meant."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamer.state.ledger
from streamer.state.ledger import ENTRY, Ledger, ranks
from tgn.graph import SLOTS


class Saved:
    """A ledger and its checkpoint in memory."""

    def __init__(self) -> None:
        self.pages: dict[bytes, bytes] = {}
        self.ledger = Ledger(self.read)

    def read(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in self.pages.items() if key.startswith(prefix))

    def save(self) -> dict[bytes, bytes | None]:
        delta = self.ledger.delta()
        for key, value in delta.items():
            if value is None:
                del self.pages[key]
            else:
                self.pages[key] = value
        assert self.ledger.saved == len(self.pages)
        return delta

    def restart(self) -> None:
        blocks = self.ledger.state()
        self.ledger = Ledger(self.read)
        self.ledger.restore(blocks, len(self.pages))


def entries(places: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.array([(order_ms, order, 0, 0, order % 7, 1, (-1,) * SLOTS) for order_ms, order in places], ENTRY)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "late", "take out", "empty", "save", "read", "restart", "let go"]),
        st.integers(0, 2),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


@given(steps=STEPS, ties=st.booleans())
def test_what_is_read_is_what_was_added_and_not_taken_out(steps: list[tuple[str, int, int]], ties: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamer.state.ledger, "BLOCK", 3)
        saved, meant = Saved(), {user: list[tuple[int, int]]() for user in range(3)}
        for n, (kind, user, number) in enumerate(steps):
            if kind in ("add", "late"):
                first = 0 if ties else 1_000 * n if kind == "add" else number % (1_000 * n + 1)
                places = [(first, 100 * n + m) for m in range(1 + number % 5)]
                saved.ledger.add(np.full(len(places), user, np.int32), entries(places))
                meant[user] = sorted(meant[user] + places)
            elif kind in ("take out", "empty"):
                mine = saved.ledger.entries(user)
                keep = np.arange(len(mine)) % 5 != number % 5 if kind == "take out" else np.zeros(len(mine), bool)
                saved.ledger.replace(user, mine[keep])
                meant[user] = [place for place, kept in zip(meant[user], keep, strict=True) if kept]
            elif kind == "read":
                saved.ledger.hold(np.array([user], np.int32))
            elif kind == "let go":
                saved.ledger.let_go()
            else:
                saved.save()
                if kind == "restart":
                    saved.restart()
            user_of, found = saved.ledger.read(np.arange(3, dtype=np.int32))
            wanted = [(u, *place) for u in range(3) for place in meant[u]]
            assert [*zip(user_of.tolist(), found["order_ms"].tolist(), found["order"].tolist(), strict=True)] == wanted
            in_order = saved.ledger.history(np.arange(3, dtype=np.int32))
            assert in_order.user.tolist() == [u for u, *_ in sorted(wanted, key=lambda entry: entry[1:])]


def test_an_edit_of_a_long_ledger_writes_what_it_changes_and_no_more() -> None:
    saved = Saved()
    for first in range(0, 100_000, 1_000):
        saved.ledger.add(np.zeros(1_000, np.int32), entries((n, n) for n in range(first, first + 1_000)))
        saved.save()
    mine = saved.ledger.entries(0)
    saved.ledger.replace(0, np.delete(mine, 31_415))
    (written,) = saved.save().values()
    assert len(written or b"") == 999 * ENTRY.itemsize
    assert saved.ledger.entries(0)["order"].tolist() == [n for n in range(100_000) if n != 31_415]


def test_a_place_comes_before_what_has_it() -> None:
    mine = entries([(1, 5), (1, 7), (1, 9), (2, 1)])
    places = entries([(0, 9), (1, 5), (1, 6), (1, 7), (1, 10), (2, 0), (2, 1), (3, 0)])
    assert ranks(mine, places).tolist() == [0, 0, 1, 1, 3, 3, 3, 4]
