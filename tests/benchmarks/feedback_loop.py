"""Lists that are learned from what they brought: python -m tests.benchmarks.feedback_loop [--runs N] writes FEEDBACK_LOOP.md.

The shop of `tests/worlds/visits.py`, whose truth is known, and a whole worker that answers for it: 200 users, of whom three in ten come
in a round, 400 items of which two are hidden and two are new in each round, half of the catalogue never shown to anybody
before. Users are shown ten items, click by chances that are known, and what they click are the interactions that the
worker learns from; nothing else comes. `worth` is the mean of clicks that a list brings by its chances, in the last ten
rounds up to the one that is named, as a share of the best list there is. `shown`, `clicked`: the share of the items
there have been that were in a list, or were clicked in one. Means over the runs, ± the standard error of the difference
with the first line, run by run: the worlds are the same.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.lists.building.fatigue import fatigued
from streamer.lists.rules import Rules
from streamer.lists.rules_on_log import apply_rules
from tests.benchmarks.engine_shop import EngineShop, engine_shop
from tests.benchmarks.records import commit, machine
from tests.worlds.visits import LOOKED_AT, PLACES, VisitWorld

RESULTS = Path(__file__).parent / "FEEDBACK_LOOP.md"
ROUNDS, BEFORE, TOLD_AT = 200, 1_000, (10, 50, 200)
DEEP = 50  # places of which fatigue chooses
SKIPPED = 3  # times that an item is passed over, until that is an interaction


class Way(NamedTuple):
    """How lists are made, and what is learned from them.

    `fatigue`: the share of an item's odds that each impression without a click takes. `by_place`: a click counts as much
    as its place is seldom looked at, at most so many times. `debias`: the share of popularity that rules take out of scores. `skip`: the weight of an item that was passed over, above
    one that was clicked, `SKIPPED` times. `tired`: after so many impressions without a click an item is a dislike.
    """

    name: str
    explore: float = 0.0
    fatigue: float = 0.0
    by_place: float = 1.0
    skip: float = 0.0
    tired: int = 0
    debias: float = 0.0

    def weights(self) -> dict[str, float]:
        """Of event types, one a place."""
        weights = {f"click at {n}": min(1 / looked, self.by_place) for n, looked in enumerate(LOOKED_AT.tolist())}
        return {name: round(weight, 3) for name, weight in weights.items()} | {"skip": self.skip, "tired": -1.0}


LOOP = tuple(Way(f"{share:.0%} explored", explore=share) for share in (0.0, 0.05, 0.1))
ABLATIONS = (
    Way("as it is"),
    Way("debias .1", debias=0.1),
    Way("debias .3", debias=0.3),
    Way("debias .3, fatigue .3", debias=0.3, fatigue=0.3),
    Way("fatigue .1", fatigue=0.1),
    Way("fatigue .3", fatigue=0.3),
    Way("clicks weighed by place, to 3", by_place=3.0),
    Way("passed over three times: −.5", skip=-0.5),
    Way("shown 3 times: −1", tired=3),
)


class Followed(NamedTuple):
    """What a run gave, by round."""

    worth: np.ndarray  # [ROUNDS] a list, as a share of the best
    shown: np.ndarray  # [ROUNDS] of the items so far
    clicked: np.ndarray  # [ROUNDS]

    def told(self) -> list[float]:
        """The figures of a line."""
        worth = [float(self.worth[max(n - 10, 0) : n].mean()) for n in TOLD_AT]
        return [*worth, float(self.worth.mean()), float(self.shown[-1]), float(self.clicked[-1])]


@cache
def follow(way: Way, seed: int, rounds: int = ROUNDS) -> Followed:
    """One world with a worker of its own."""
    world, found = VisitWorld(seed), list[tuple[float, float, float]]()
    with (
        tempfile.TemporaryDirectory() as folder,
        engine_shop(Path(folder), event_weights=way.weights(), exclude_seen=True) as shop,
    ):
        if way.debias:
            apply_rules(shop.log, shop.settings, [Rules(surface="default", debias=way.debias)], 1)
        shop.send([_event(user, item, at, "click") for user, item, at in world.before(BEFORE)], world.records())
        if way.debias:
            shop.wait_for_rules()
        seen = _Impressions(way)
        shown, clicked = set[int](), set[int]()
        for _ in range(rounds):
            shop.send(items=world.round())
            worth = [(0.0, 1.0)]
            events = list[dict[str, Any]]()
            for user, items in _lists(shop, way, world.visitors(), seen):
                worth.append((world.worth(user, items), world.best(user)))
                places = world.look(user, items)
                shown.update(items)
                clicked.update(items[place] for place in places)
                events += [_event(user, items[place], world.now_ms, f"click at {place}") for place in places]
                events += [_event(user, item, world.now_ms, kind) for item, kind in seen.looked(user, items, places)]
            shop.send(events)
            brought, best = np.array(worth[1:]).sum(axis=0)
            found.append((brought / best, len(shown) / world.items, len(clicked) / world.items))
    return Followed(*np.array(found).T)


class _Impressions:
    """What each user was shown and did not take, and passed over."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._shown, self._passed = dict[tuple[int, int], int](), dict[tuple[int, int], int]()

    def counts(self, user: int, items: list[int]) -> np.ndarray:
        """[N] how often the user was shown each item."""
        return np.array([self._shown.get((user, item), 0) for item in items])

    def looked(self, user: int, items: list[int], clicked: list[int]) -> list[tuple[int, str]]:
        """Notes a list that was looked at. Returns the items that are disliked by now, and why."""
        found = list[tuple[int, str]]()
        above = max(clicked, default=0)
        for place, item in enumerate(items):
            shown = self._shown[user, item] = self._shown.get((user, item), 0) + 1
            if place in clicked:
                continue
            passed = self._passed[user, item] = self._passed.get((user, item), 0) + (place < above)
            if self._way.skip and place < above and passed == SKIPPED:
                found.append((item, "skip"))
            if shown == self._way.tired:
                found.append((item, "tired"))
        return found


def _lists(shop: EngineShop, way: Way, users: list[int], seen: _Impressions) -> Iterator[tuple[int, list[int]]]:
    """The items of each one's list."""
    k = DEEP if way.fatigue else PLACES
    for user, told in zip(users, shop.lists([f"u{user}" for user in users], k, way.explore), strict=True):
        items = [int(one["item_id"][1:]) for one in told["items"]]
        if way.fatigue:
            score = np.array([one["score"] for one in told["items"]])
            order = np.argsort(-fatigued(score, seen.counts(user, items), way.fatigue), kind="stable")
            items = [items[n] for n in order[:PLACES].tolist()]
        yield user, items


def _event(user: int, item: int, at_ms: int, kind: str) -> dict[str, Any]:
    return {"user_id": f"u{user}", "item_id": f"i{item}", "event_type": kind, "timestamp": at_ms}


def table(ways: tuple[Way, ...], runs: int, say: Callable[[str], None]) -> Iterator[str]:
    """A line for each way."""
    worth = "".join(f" worth, round {n} |" for n in TOLD_AT)
    yield f"| |{worth} worth, all rounds | shown | clicked |"
    yield "|---" * (len(TOLD_AT) + 4) + "|"
    first: np.ndarray | None = None
    for way in ways:
        found = []
        for seed in range(runs):
            found.append(follow(way._replace(name=""), seed).told())
            say(f"{way.name}, run {seed + 1}: " + " ".join(f"{value:.3f}" for value in found[-1]))
        told = np.array(found)  # [RUNS, figures]
        first = told if first is None else first
        error = (told - first).std(axis=0, ddof=1) / np.sqrt(runs) if runs > 1 else np.zeros(told.shape[1])
        cells = [
            f"{mean:.3f}" + (f" ± {e:.3f}" if told is not first else "")
            for mean, e in zip(told.mean(axis=0), error, strict=True)
        ]
        yield f"| {way.name} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.feedback_loop")
    parser.add_argument("--runs", type=int, default=4, help="worlds of each line")
    given = parser.parse_args()
    lines = ["# Lists that are learned from what they brought", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines.append(f"`python -m tests.benchmarks.feedback_loop --runs {given.runs}`, commit {commit()}, {machine()}.")
    parts = (("Exploration", LOOP), ("What rules and impressions change", ABLATIONS))
    for title, ways in parts:
        lines += ["", f"## {title} ({given.runs} runs a line)", ""]
        for line in table(ways, given.runs, lambda said: print(said, flush=True)):
            lines.append(line)
            print(line, flush=True)
            RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
