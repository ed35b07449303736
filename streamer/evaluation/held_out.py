"""Interactions that a replay asks for and never observes: the test part of a split."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from streamer.engine.engine import Engine, Selection
from streamer.evaluation.merged_sessions import MergedSessions
from streamer.lists.list_files import TestLists
from streamer.monitoring.prequential_quality import metrics, places, scores
from streamer.pipeline.surface_lists import SurfaceLists
from tgn.asking.asked_lists import AskedLists, Ring
from tgn.graph import I32, U8
from tgn.prequential import Lists, Outcome

WRITTEN_AT_ONCE = 10_000  # lists
NOTHING = Ring(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))


class HeldOut:
    """A list for each of M interactions, made for its user at its time. Nothing is learned from them or observed.

    A list knows what the stream holds up to its time, events of the same time too.

    Args:
        table: the interactions, as `read_interactions` gives them: in time order.
        engine: that takes the stream.
        surface: whose rules the lists obey.
        sessions: those that are users' by then; None: there are none.
    """

    def __init__(
        self, table: pa.Table, engine: Engine, surface: SurfaceLists, sessions: MergedSessions | None = None
    ) -> None:
        self._owner_of = (lambda user: user) if sessions is None else sessions.owner
        self._engine, self._surface, self._asked = engine, surface, AskedLists(engine.model)
        good = table["reason"].is_null().to_numpy()
        self._number, self._t = np.flatnonzero(good), table["timestamp"].to_numpy(zero_copy_only=False)[good]
        self._t = self._t.astype(np.int64)
        known = table.filter(pa.array(good))
        self._user, self._item = (known[name].to_pylist() for name in ("user_id", "item_id"))
        self._next = 0
        self._made: list[tuple[list[int], Lists, U8]] = []  # not written yet
        self._refused = np.flatnonzero(~good)
        self.rank = np.zeros(len(good), np.int64)  # [M] place of the item in its list, from 1; 0: it is not in it

    def rows(self, clock: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """[R] the rows of the stream before which lists are due: starts of blocks.

        clock: [N] the stream's clock at each row, epoch ms; edges: [blocks] the rows at which they start.
        """
        self._due = np.searchsorted(clock, self._t, "right")
        inside = self._due < len(clock)
        self._due[inside] = edges[np.searchsorted(edges, self._due[inside], "right") - 1]
        return np.unique(self._due[inside])

    def answer(self, row: int, lists: TestLists) -> None:
        """Makes the lists that are due before a row of the stream."""
        end = int(np.searchsorted(self._due, row, "right"))
        while self._next < end:
            same = int(np.searchsorted(self._t[:end], self._t[self._next], "right"))
            self._ask(slice(self._next, same))
            self._next = same
        if len(self._made) >= WRITTEN_AT_ONCE:
            self._write(lists)

    def finish(self, lists: TestLists) -> None:
        """Makes the lists that are due after the stream's last row, and empty ones for what could not be asked for."""
        self.answer(np.iinfo(np.int64).max, lists)
        self._write(lists)
        lists.write_empty(self._refused)

    def figures(self) -> dict[str, float]:
        """Metric → its mean over all that were asked for; an item that is not in its list is a miss."""
        means = scores(self.rank, places(self._surface.k)).mean(axis=0) if len(self.rank) else np.zeros(3)
        return dict(zip(metrics(self._surface.k), means.tolist(), strict=True))

    def _ask(self, which: slice) -> None:
        """Lists of one time."""
        model, now = self._engine.model, int(self._t[which.start])
        for n, outcome in self._lists(which, now):
            items = [model.items.get(self._item[one]) for one in n]
            hits = outcome.published.item == np.array([-2 if item is None else item for item in items])[:, None]
            self.rank[self._number[n]] = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
            self._made.append((n, outcome.published, outcome.evidence.source))

    def _write(self, lists: TestLists) -> None:
        if self._made:
            n = [one for numbers, _, _ in self._made for one in numbers]
            made = Lists(*map(np.concatenate, zip(*(of for _, of, _ in self._made), strict=True)))
            source = np.concatenate([of for _, _, of in self._made])
            ids, users = self._engine.model.items.ids, [self._user[one] for one in n]
            lists.write(self._number[n], made, source, np.arange(len(n)), ids, users, self._t[n].tolist())
            self._made = []

    def _lists(self, which: slice, now: int) -> Iterator[tuple[list[int], Outcome]]:
        """Which of them, and their lists: those of known users together, then of each unknown one."""
        users = self._engine.model.users
        owners = ((n, users.get(self._owner_of(self._user[n]))) for n in range(which.start, which.stop))
        known = [(n, node) for n, node in owners if node is not None]
        if known:
            nodes = np.array([node for _, node in known], np.int32)
            list_ids = [_list_id(n) for n, _ in known]
            made = self._surface.relist(nodes, now, list_ids.__getitem__, self._of_users)
            yield [n for n, _ in known], made.outcome
        for n in sorted(set(range(which.start, which.stop)) - {n for n, _ in known}):
            yield [n], self._surface.of_nobody(now, self._of_nobody, _list_id(n)).outcome

    def _of_users(self, users: I32, now: int, under: Selection) -> Outcome:
        return self._asked.of_users([(user, None) for user in users.tolist()], now, *under)

    def _of_nobody(self, now: int, under: Selection) -> Outcome:
        return self._asked.of_ring(NOTHING, now, under.k, under.allowed)


def _list_id(n: int) -> str:
    """What names a list, as the key of what rules draw."""
    return f"asked-{n}"
