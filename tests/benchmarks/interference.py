"""Users who move one another, dealt alone and in groups: python -m tests.benchmarks.interference [--runs N] writes INTERFERENCE.md.

The shop of `tests/worlds/circles.py`: 2,000 users in 100 circles, half of them shown new lists. `truth`: how much CTR changes
when all are shown them against none, as a share of it: what they do to those who see them, and what they do through others who take the same
items. Users are dealt alone, in groups at random, or in groups that METIS finds in who took what (60 groups; it knows
nothing of the circles). Estimates are the plain ones of a report. `bias`: the mean estimate less the truth, as a share
of CTR; `varies by`: their standard deviation; `misses`: how often the truth is outside of the 95 % interval of a fixed
time. Each run deals anew; worlds change every tenth run.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from consumers.schemas import User
from streamer.experiments.graph_groups import split
from streamer.experiments.intervals import plain
from streamer.experiments.strata import balanced_salt
from streamer.lists.assignment import arm_of
from streamer.lists.rules import SurfaceExperiment
from tests.benchmarks.records import commit, machine
from tests.worlds.circles import Circles, circles, ctr_of_units

RESULTS = Path(__file__).parent / "INTERFERENCE.md"
GROUPS, A_WORLD = 60, 10
ARMS = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]


class Way(NamedTuple):
    """How users are dealt. `unit`: alone, random or graph; `salt`: as it comes, or chosen by a stratum; `by_user`: squares
    are those of users although groups are dealt."""

    name: str
    unit: str
    salt: str = "as it comes"
    by_user: bool = False


WAYS = (
    Way("users alone", "alone"),
    Way("users alone, salt chosen by tier", "alone", "tier"),
    Way("groups at random", "random"),
    Way("groups of the graph", "graph"),
    Way("groups of the graph, salt chosen by size", "graph", "size"),
    Way("groups of the graph, salt chosen by tier", "graph", "tier"),
    Way("groups of the graph, intervals as if users were alone", "graph", by_user=True),
)
EFFECTS = ((0.0, 0.0), (0.2, 0.0), (0.1, 0.2))


def arms(way: Way, world: Circles, unit: np.ndarray, salt: str) -> np.ndarray:
    """[U] 1.0 where a user is in arm b."""
    field = None if way.unit == "alone" else "user.group"
    experiment = SurfaceExperiment.model_validate({"name": "x", "salt": salt, "unit": field, "arms": ARMS})
    if way.salt != "as it comes":
        users = [
            User(f"u{n}", attributes={"group": int(unit[n]), "tier": int(world.tier[n])}) for n in range(world.users)
        ]
        chosen = balanced_salt(experiment, "user.tier" if way.salt == "tier" else None, users)
        experiment = experiment.model_copy(update={"salt": chosen})
    dealt = {n: arm_of(experiment, f"u{n}", None if field is None else str(n)) for n in np.unique(unit).tolist()}
    return np.array([float(dealt[n] == "b") for n in unit.tolist()])


def lines(runs: int) -> Iterator[str]:
    """A table for each effect."""
    random = np.random.default_rng(0)
    worlds = [circles(random) for _ in range(-(-runs // A_WORLD))]
    found = [split(world.user, world.item, world.users, world.items, GROUPS) for world in worlds]
    ties = [
        (world.seen * (group[:, None] == group)).sum(axis=1).mean() for world, group in zip(worlds, found, strict=True)
    ]
    yield f"Of what moves a user, {np.mean(ties):.0%} comes from their own group of the graph."
    for direct, moved in EFFECTS:
        yield ""
        yield f"## {direct:+.0%} by the lists that one sees, {moved:+.0%} through others ({runs} runs a line)"
        yield ""
        yield "| dealt | truth | bias | varies by | misses |"
        yield "|---|---|---|---|---|"
        for way in WAYS:
            told = []
            for run in range(runs):
                world, group = worlds[run // A_WORLD], found[run // A_WORLD]
                alone = np.arange(world.users)
                unit = {"alone": alone, "random": random.integers(0, GROUPS, world.users), "graph": group}[way.unit]
                treated = arms(way, world, unit, f"{way.name} {direct} {run}"[:60])
                clicks = world.clicks(random, treated, direct, moved)
                squares = alone if way.by_user else unit
                first, other = (
                    ctr_of_units(f"x:{arm}", squares[treated == n], clicks[treated == n]) for n, arm in enumerate("ab")
                )
                estimate, ctr = plain(first, other), float(world.taste.mean())
                truth = (direct + moved) * ctr
                told.append(((estimate.difference - truth) / ctr, not estimate.low < truth < estimate.high))
            bias, misses = np.array(told, float).T
            yield (
                f"| {way.name} | {direct + moved:+.0%} | {100 * bias.mean():+.1f} points | {100 * bias.std():.1f} points "
                f"| {misses.mean():.1%} |"
            )


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.interference")
    parser.add_argument("--runs", type=int, default=200, help="experiments of each line")
    given = parser.parse_args()
    text = [
        "# Users who move one another, dealt alone and in groups",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
    ]
    text += [f"`python -m tests.benchmarks.interference --runs {given.runs}`, commit {commit()}, {machine()}.", ""]
    for line in lines(given.runs):
        text.append(line)
        print(line, flush=True)
    RESULTS.write_text("\n".join([*text, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
