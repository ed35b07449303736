"""Experiments whose truth is known: python -m tests.benchmarks.experiments [--runs N] writes EXPERIMENTS.md.

Outcomes of `tests/worlds/outcomes.py`, users with tastes and zeal of their own who come on 28 days and are looked at each
day; CTR of two arms. `before`: days of the time before the experiment that are known, for CUPED; 0: there is no CUPED.
A verdict is that of the always-valid interval. Every line is runs of its own.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamer.experiments.intervals import Estimate, always_valid, cuped, plain, users_needed
from tests.benchmarks.records import commit, machine
from tests.worlds.outcomes import MEAN_TASTE, ctr_until, outcomes, purchases

RESULTS = Path(__file__).parent / "EXPERIMENTS.md"
DAYS, USERS = 28, 2_000


def looks(
    random: np.random.Generator, lift: float, before: int, users: int = USERS, days: int = DAYS
) -> Iterator[tuple[Estimate, Estimate | None]]:
    """What one experiment shows at the end of each day, plain and with CUPED."""
    a, b = (outcomes(random, users, days, shift, before) for shift in (0.0, lift))
    for day in range(days):
        first, other = ctr_until("x:a", a, day), ctr_until("x:b", b, day)
        if min(first.users, other.users) >= 30:
            yield plain(first, other), cuped(first, other)


def errs(estimates: list[Estimate], truth: float) -> tuple[bool, bool, bool]:
    """Whether the truth lies outside: of the fixed interval at the end, of it on any day, of the other on any day."""
    outside = [not one.low < truth < one.high for one in estimates]
    return outside[-1], any(outside), any(not one.always_low < truth < one.always_high for one in estimates)


def alarms(runs: int) -> Iterator[str]:
    """A/A and A/B: how often intervals miss the truth."""
    yield "| lift | before | estimate | fixed, at the end | fixed, any day | always-valid, any day | verdict by the end |"
    yield "|---|---|---|---|---|---|---|"
    for lift in (0.0, 0.2):
        for before in (0, 28):
            random, ways = np.random.default_rng([before, round(100 * lift)]), dict[str, list[tuple[bool, ...]]]()
            for _ in range(runs):
                both = list(looks(random, lift, before))
                of = {"plain": [one for one, _ in both], "CUPED": [one for _, one in both if one is not None]}
                for name, estimates in of.items():
                    if estimates:
                        shown = any(one.always_low > 0 or one.always_high < 0 for one in estimates)
                        ways.setdefault(name, []).append((*errs(estimates, lift * MEAN_TASTE), shown))
            for name, found in ways.items():
                shares = np.mean(found, axis=0)
                yield f"| {lift:.0%} | {before} | {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def times(runs: int) -> Iterator[str]:
    """How soon a verdict comes."""
    yield "| lift | before | plain: day of the verdict | CUPED | none by the end, plain | CUPED | interval with CUPED |"
    yield "|---|---|---|---|---|---|---|"
    for lift in (0.15, 0.2, 0.3):
        for before in (3, 7, 28):
            random = np.random.default_rng([before, round(100 * lift), 1])
            days = dict[bool, list[int]]({False: [], True: []})
            widths = []
            for _ in range(runs):
                both = list(looks(random, lift, before))
                for with_past, found in days.items():
                    estimates = [one[1] if with_past else one[0] for one in both]
                    shown = (n for n, one in enumerate(estimates, 1) if one is not None and one.always_low > 0)
                    found.append(next(shown, DAYS + 1))
                last, past = both[-1]
                widths.append(1.0 if past is None else past.error / last.error)
            median = [f"{np.median(days[way]):.0f}" if np.median(days[way]) <= DAYS else "–" for way in (False, True)]
            none = [f"{np.mean(np.array(days[way]) > DAYS):.0%}" for way in (False, True)]
            yield f"| {lift:.0%} | {before} | {' | '.join(median)} | {' | '.join(none)} | {np.mean(widths):.0%} |"


def power(runs: int) -> Iterator[str]:
    """What is said to be needed after a pilot, and how often so many users show the effect."""
    yield "| effect | said to be needed | so many show it, by the end |"
    yield "|---|---|---|"
    for lift in (0.1, 0.2, 0.3):
        random, needed = np.random.default_rng([round(100 * lift), 2]), []
        for _ in range(20):
            *_, (one, past) = looks(random, 0.0, 28)
            estimate = past or one
            needed.append(users_needed(estimate.error, 2 * USERS, lift * MEAN_TASTE) or 0)
        size, found = round(float(np.median(needed)) / 2), 0
        for _ in range(runs):
            found += any((past or one).always_low > 0 for one, past in looks(random, lift, 28, size))
        yield f"| {lift:.0%} | {2 * size:,} | {found / runs:.0%} |"


def guards(runs: int) -> Iterator[str]:
    """How often a guard stops an arm that harms nothing, and how soon one that does. Looked at after every user."""
    yield "| harm | stopped | after users (median) |"
    yield "|---|---|---|"
    for lift in (0.0, -0.2, -0.5):
        random, n, stops = np.random.default_rng([round(-100 * lift), 3]), 20_000, list[int]()
        users = np.arange(1, n + 1)
        times_error = np.array([always_valid(1.0, 2 * m) for m in users.tolist()])
        for _ in range(runs):
            a, b = purchases(random, n), purchases(random, n, lift)
            mean = [np.cumsum(one) / users for one in (a, b)]
            spread = [np.cumsum(one * one) / users - m * m for one, m in zip((a, b), mean, strict=True)]
            error = np.sqrt((spread[0] + spread[1]) / np.maximum(users - 1, 1))
            harmed = np.flatnonzero((mean[1] - mean[0] < -error * times_error) & (users >= 30))
            stops.append(int(users[harmed[0]]) * 2 if len(harmed) else 0)
        stopped = [one for one in stops if one]
        soon = f"{np.median(stopped):,.0f}" if stopped else "–"
        yield f"| {abs(lift):.0%} | {len(stopped) / runs:.1%} | {soon} |"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.experiments")
    parser.add_argument("--runs", type=int, default=1_000, help="experiments of each line")
    given = parser.parse_args()
    lines = ["# Experiments whose truth is known", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines.append(f"`python -m tests.benchmarks.experiments --runs {given.runs}`, commit {commit()}, {machine()}.")
    parts = (
        (f"How often an interval misses the truth ({given.runs:,} experiments a line)", alarms(given.runs)),
        (f"How soon there is a verdict ({given.runs // 5:,} experiments a line)", times(given.runs // 5)),
        (f"How many users are needed ({given.runs // 5:,} experiments a line)", power(given.runs // 5)),
        (f"Guards of revenue a user ({given.runs:,} experiments a line)", guards(given.runs)),
    )
    for title, rows in parts:
        lines += ["", f"## {title}", ""]
        for line in rows:
            lines.append(line)
            print(line, flush=True)
    RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
