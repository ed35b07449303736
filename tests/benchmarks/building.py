"""Steps of list building: python -m tests.benchmarks.building [--streams a,b] [--events N] writes BUILDING.md.

A stream is replayed; in its last fifth, for one in so many users, each list of 10 is built from the model's first 50 by
one step at several strengths. What a step costs is the difference in NDCG@10, with its standard error by pairs of lists;
what it buys stands beside it. Diversity is the mean of 1 − likeness over a list's pairs, by what MMR reads: categories and
the model's embeddings. KL is from the kinds in the user's history to those in the list. Drawn are places that do not have
the item of the ranking; shown before are items that the step has shown to the user since the user took them last.
The fallback chain is asked for users with at most one event before, each beginning of it by itself; a cohort is a device and
a country.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from consumers.files.interactions import read_interactions, read_items
from streamer.engine.engine import Engine
from streamer.evaluation import measures
from streamer.evaluation.replay import ReplayOptions, TakenChunk, first_measured, replay
from streamer.features.contexts import NAMES
from streamer.lists.building.calibration import calibrated
from streamer.lists.building.debiasing import debiased
from streamer.lists.building.diversity import diversified, features
from streamer.lists.building.exploration import Drawn, explored
from streamer.lists.building.fallback import FallbackSource, chained
from streamer.lists.building.fatigue import fatigued
from streamer.lists.building.quotas import quotas_of, within_quotas
from streamer.settings import Settings
from tests.benchmarks.curve_page import write_page
from tests.benchmarks.records import FOLDER
from tests.benchmarks.streams import STREAMS
from tests.conftest import DATA
from tgn.graph import F64

RESULTS = Path(__file__).parent / "BUILDING.md"
K, TIMES_AS_LONG, CHUNK = 10, 5, 2_000
OFTEN = (0, 10, 100, 1_000)  # kinds of items where records say none: how often they were chosen
ONE_IN = {"globo-news": 20, "movietweetings": 10}  # users whose lists are looked at
SCALE_MS = {"globo-news": 4 * 3_600_000, "movietweetings": 7 * 86_400_000}  # of popularity in the fallback chain
COLUMNS = (
    "NDCG@10",
    "difference",
    "HR@10",
    "full",
    "diversity",
    "KL, bits",
    "coverage",
    "Gini",
    "novelty, bits",
    "drawn",
    "shown before",
)


class Case(NamedTuple):
    """What a step can read for one event."""

    score: F64  # [N] of the ranking
    items: np.ndarray  # [N]
    rows: F64  # [N, F] whose products are likenesses
    kinds: F64  # [N, C] shares of kinds in each item
    history: F64  # [C] how much of each kind the user took
    events: np.ndarray  # [N] interactions of each item
    shown: Counter[int]  # item → how often this step has shown it to the user since it was taken
    key: str  # of what is drawn


Step = Callable[[Case], np.ndarray | Drawn]


def steps() -> Iterator[tuple[str, str, Step]]:
    """Name and strength of each variant, and what it does."""
    yield "the ranking", "", lambda c: np.arange(K)
    for s in (0.1, 0.3, 0.5, 0.7, 0.9):
        yield "diversity (MMR)", f"{s}", lambda c, s=s: diversified(c.score, c.rows, s, K)
    for s in (0.1, 0.3, 0.5, 0.7, 0.9):
        yield "calibration", f"{s}", lambda c, s=s: calibrated(c.score, c.kinds, c.history, s, K)
    for s in (0.5, 0.8, 1.0):
        yield "quotas by history", f"{s}", lambda c, s=s: within_quotas(c.kinds, quotas_of(c.history, s, K), K)
    for n in (5, 3):
        yield "quotas", f"{n} of a kind", lambda c, n=n: within_quotas(c.kinds, np.full(c.kinds.shape[1], n), K)
    for s in (0.02, 0.05, 0.1, 0.2, 0.5):
        yield "debias", f"{s}", lambda c, s=s: _sorted(debiased(c.score, c.events, s))
    for s in (0.1, 0.3, 0.5, 0.9):
        yield (
            "fatigue",
            f"{s}",
            lambda c, s=s: _sorted(fatigued(c.score, np.array([c.shown[i] for i in c.items.tolist()]), s)),
        )
    for s in (0.1, 0.2, 0.5, 1.0):
        yield "exploration", f"{s}", lambda c, s=s: explored(c.score, s, K, 0, c.key)
    for s in (0.1, 0.2):
        yield "exploration, equal chances", f"{s}", lambda c, s=s: explored(c.score, s, K, 0, c.key, np.inf)


def _sorted(score: F64) -> np.ndarray:
    return np.argsort(-score, kind="stable")


class Lists:
    """The lists of one variant, and what they were worth."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.shown: dict[int, Counter[int]] = {}  # by user
        self.items: list[np.ndarray] = []
        self.propensity: list[np.ndarray] = []
        self.alike: list[float] = []
        self.kinds: list[np.ndarray] = []
        self.drawn, self.again = 0, 0

    def make(self, case: Case, user: int) -> None:
        """Makes the list of one event."""
        shown = self.shown.setdefault(user, Counter())
        found = self._step(case._replace(shown=shown))
        place, propensity = found if isinstance(found, Drawn) else (found[:K], np.ones(len(found[:K])))
        items = case.items[place]
        rows = case.rows[place]
        pairs = max(len(items) * (len(items) - 1), 1)
        self.alike.append(float(((rows @ rows.T).sum() - (rows * rows).sum()) / pairs))
        self.items.append(np.pad(items, (0, K - len(items)), constant_values=-1))
        self.propensity.append(np.pad(propensity, (0, K - len(items)), constant_values=1.0))
        self.kinds.append(case.kinds[place].sum(axis=0))
        self.drawn += int((place != np.arange(len(place))).sum()) if isinstance(found, Drawn) else 0
        self.again += sum(shown[item] > 0 for item in items.tolist())
        shown.update(items.tolist())

    def taken(self, user: int, item: int) -> None:
        """Notes that a user took an item."""
        if user in self.shown:
            self.shown[user].pop(item, None)


class Watcher:
    """Makes lists of the events that are looked at, and remembers what steps read."""

    def __init__(self, name: str, engine: Engine, first: int, one_in: int) -> None:
        self._engine, self._first, self._one_in = engine, first, one_in
        self.variants = [(step, strength, Lists(how)) for step, strength, how in steps()]
        records = read_items(DATA / name / "items.parquet") if (DATA / name / "items.parquet").is_file() else ()
        self._categories = {item.item_id: item.categories for item in records}
        self._kind = {c: n for n, c in enumerate(sorted({c for own in self._categories.values() for c in own}))}
        self._vectors = np.zeros((0, 1))
        self.events = np.zeros(0, np.int64)  # [I] interactions of each item, as the steps know them
        self._history: dict[int, np.ndarray] = {}
        self.taken_items: list[int] = []
        self.histories: list[np.ndarray] = []
        self.chain = Chain(SCALE_MS[name])

    def watch(self, chunk: TakenChunk) -> None:
        """Takes a chunk: what steps read of items is of before it."""
        columns, test = chunk.columns, chunk.outcome.test
        model = self._engine.model
        if not len(self._vectors):
            self._vectors = np.zeros((0, model.embeddings.candidate.shape[1]))
        room = len(model.items)
        self._vectors = np.pad(self._vectors, ((0, room - len(self._vectors)), (0, 0)))
        self.events = np.pad(self.events, (0, room - len(self.events)))
        ids = model.items.ids
        for n in np.flatnonzero(columns.user % self._one_in == 0).tolist():
            user, item, size = int(columns.user[n]), int(columns.item[n]), int(test.size[n])
            if chunk.event[n] >= self._first and size > K:
                self._make(
                    int(chunk.event[n]), user, item, test.item[n, :size], test.score[n, :size].astype(float), ids
                )
            self._history[user] = self._history.get(user, 0) + self._kinds(np.array([item]), ids)[0]
            for _, _, lists in self.variants:
                lists.taken(user, item)
        self.chain.watch(chunk, self._first, self._vectors, self._one_in)
        np.add.at(self.events, columns.item, 1)
        self._vectors = model.embeddings.candidate[:room].astype(float)

    def _make(self, event: int, user: int, item: int, items: np.ndarray, score: np.ndarray, ids: list[str]) -> None:
        kinds = self._kinds(items, ids)
        rows = features([self._categories.get(ids[i], ()) for i in items.tolist()], self._vectors[items])
        history = self._history.get(user, np.zeros(kinds.shape[1]))
        case = Case(score, items, rows, kinds, history, self.events[items], Counter(), f"interactions-0-{event}")
        for _, _, lists in self.variants:
            lists.make(case, user)
        self.taken_items.append(item)
        self.histories.append(history)

    def _kinds(self, items: np.ndarray, ids: list[str]) -> np.ndarray:
        if not self._kind:
            return np.eye(len(OFTEN))[np.searchsorted(OFTEN, self.events[items], side="right") - 1]
        kinds = np.zeros((len(items), len(self._kind)))
        for row, item in enumerate(items.tolist()):
            own = self._categories.get(ids[item], ())
            kinds[row, [self._kind[c] for c in own]] = 1 / max(len(own), 1)
        return kinds

    def table(self) -> Iterator[str]:
        """A row a variant."""
        yield f"| step | strength | {' | '.join(COLUMNS)} |"
        yield "|---" * (len(COLUMNS) + 2) + "|"
        item, histories = np.array(self.taken_items), np.array(self.histories)
        one, plain = np.ones(len(item), np.int64), None
        for step, strength, lists in self.variants:
            listed = np.array(lists.items)
            hits = listed == item[:, None]
            ndcg = measures.ndcg(hits, one)
            plain = ndcg if plain is None else plain
            places = max(int((listed >= 0).sum()), 1)
            gap = ndcg - plain
            figures = (
                f"{ndcg.mean():.4f}",
                f"{gap.mean():+.4f} ± {gap.std() / len(gap) ** 0.5:.4f}",
                f"{measures.hit_rate(hits).mean():.4f}",
                f"{(listed >= 0).all(axis=1).mean():.0%}",
                f"{1 - np.mean(lists.alike):.3f}",
                f"{measures.calibration(np.array(lists.kinds), histories)[histories.any(axis=1)].mean():.3f}",
                f"{measures.coverage(listed, len(self.events)):.3f}",
                f"{measures.gini(listed, len(self.events)):.3f}",
                f"{measures.novelty(listed, self.events).mean():.2f}",
                f"{lists.drawn / places:.1%}",
                f"{lists.again / places:.1%}",
            )
            yield f"| {step} | {strength} | {' | '.join(figures)} |"

    def estimates(self) -> Iterator[str]:
        """What lists that were drawn say of the ranking without drawing, by inverse propensity scores."""
        item = np.array(self.taken_items)
        discount = 1 / np.log2(np.arange(2, K + 2))
        ranked = np.array(self.variants[0][2].items)
        yield "| lists drawn with | NDCG@10 of the ranking, estimated | standard error | measured |"
        yield "|---|---|---|---|"
        true = ((ranked == item[:, None]) @ discount).mean()
        for step, strength, lists in self.variants:
            if step.startswith("exploration"):
                listed, propensity = np.array(lists.items), np.array(lists.propensity)
                worth = ((listed == item[:, None]) & (listed == ranked)) / propensity @ discount
                error = worth.std() / len(worth) ** 0.5
                yield f"| {step}, {strength} | {worth.mean():.4f} | {error:.4f} | {true:.4f} |"


class Chain:
    """The fallback chain for users with at most one event before, each beginning of it by itself."""

    def __init__(self, scale_ms: float) -> None:
        self._scale_ms = scale_ms
        self._popular: dict[bytes, np.ndarray] = {}  # cohort → decayed interactions of each item
        self._first = np.zeros(0, np.int64)  # [I] ms
        self._last: dict[int, int] = {}  # user → item
        self._events: Counter[int] = Counter()
        self._clock = 0
        self._ranked: dict[bytes, np.ndarray] = {}  # the best of each cohort as of the last chunk
        self.ndcg: dict[tuple[int, str], list[float]] = {}

    def watch(self, chunk: TakenChunk, first: int, vectors: np.ndarray, one_in: int) -> None:
        """Takes a chunk; what the chain reads of items is of before it."""
        columns, test = chunk.columns, chunk.outcome.test
        contexts = columns.context[:, [NAMES.index("device"), NAMES.index("country")]]
        cohorts = [row.tobytes() for row in contexts]
        known = len(self._first)
        newest = np.argsort(-self._first, kind="stable")[:K]
        for n, (user, item) in enumerate(zip(columns.user.tolist(), columns.item.tolist(), strict=True)):
            before = self._events[user]
            if chunk.event[n] >= first and before <= 1 and user % one_in < 2 and known:
                sources = [self._best("popular", b""), FallbackSource("new", newest)]
                if contexts[n].max() >= 0:
                    sources.insert(0, self._best("cohort", cohorts[n]))
                last = self._last.get(user, known)
                if before and last < known:
                    near = vectors[:known] @ vectors[last] / np.maximum(np.linalg.norm(vectors[:known], axis=1), 1e-9)
                    near[last] = -np.inf
                    sources.insert(0, FallbackSource("similar-items", np.argsort(-near)[:K]))
                for start in range(len(sources)):
                    names = " → ".join(source.label for source in sources[start:])
                    self._note(before, names, chained(sources[start:], K).item, item)
                self._note(before, "the model", test.item[n, :K], item)
            self._events[user] += 1
            self._last[user] = item
        self._observe(chunk, cohorts)

    def _note(self, before: int, name: str, listed: np.ndarray, item: int) -> None:
        hits = np.zeros((1, K), bool)
        hits[0, : len(listed)] = listed == item
        self.ndcg.setdefault((before, name), []).append(float(measures.ndcg(hits, np.ones(1, np.int64))[0]))

    def _best(self, label: str, cohort: bytes) -> FallbackSource:
        if cohort not in self._ranked:
            counts = self._popular.get(cohort, np.zeros(0))
            best = np.argsort(-counts, kind="stable")[:K]
            self._ranked[cohort] = best[counts[best] > 0]
        return FallbackSource(label, self._ranked[cohort])

    def _observe(self, chunk: TakenChunk, cohorts: list[bytes]) -> None:
        columns, clock = chunk.columns, int(chunk.columns.t[-1])
        room = max(int(columns.item.max()) + 1, len(self._first))
        fresh = np.full(room - len(self._first), clock)
        self._first = np.append(self._first, fresh)
        left = np.exp(-(clock - self._clock) / self._scale_ms) if self._clock else 1.0
        rows: dict[bytes, list[int]] = {b"": list(range(len(cohorts)))}
        for n, cohort in enumerate(cohorts):
            rows.setdefault(cohort, []).append(n)
        for cohort in rows.keys() | self._popular.keys():
            counts = self._popular.get(cohort, np.zeros(0)) * left
            self._popular[cohort] = np.pad(counts, (0, room - len(counts)))
            np.add.at(self._popular[cohort], columns.item[rows.get(cohort, [])], 1)
        self._clock, self._ranked = clock, {}

    def table(self) -> Iterator[str]:
        """A row a beginning of the chain."""
        yield "| events of the user before | list | NDCG@10 | events |"
        yield "|---|---|---|---|"
        for (before, name), found in sorted(self.ndcg.items()):
            yield f"| {before} | {name} | {np.mean(found):.4f} | {len(found):,} |"


def measure(name: str, events: int) -> Iterator[str]:
    """The part of one stream."""
    stream, one_in, started = STREAMS[name], ONE_IN[name], time.perf_counter()
    table = read_interactions(stream.file(FOLDER)).slice(0, events)
    settings = Settings(exclude_seen=stream.flag("--exclude-seen") is not None, k=TIMES_AS_LONG * K)
    options, engine = ReplayOptions(chunk=CHUNK), Engine(settings)
    watcher = Watcher(name, engine, first_measured(len(table), options), one_in)
    replay(table, settings, options, watch=watcher.watch, engine=engine)
    kinds = "genres" if watcher._kind else f"how often an item was chosen, from {', '.join(map(str, OFTEN))} on"
    yield f"\n## {name}\n"
    yield (
        f"The first {len(table):,} events, one in {one_in} users: {len(watcher.taken_items):,} lists. Kinds: {kinds}. "
        f"{time.perf_counter() - started:.0f} s.\n"
    )
    yield from watcher.table()
    yield ""
    yield from watcher.estimates()
    yield ""
    yield from watcher.chain.table()


if __name__ == "__main__":
    raise SystemExit(write_page("building", "Steps of list building", __doc__ or "", measure, RESULTS))
