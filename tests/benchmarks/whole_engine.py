"""Experiments that the whole engine runs: python -m tests.benchmarks.whole_engine [--runs N] writes WHOLE_ENGINE.md.

The shop of `tests/worlds/visits.py` with 400 users, of whom half come in each of 20 rounds. A worker answers for it with an experiment
of two arms and a holdback of a tenth; every list that is asked for is shown, its clicks are sent as feedback and as
interactions, and what `freshet run feedback` counts of them is reported: CTR of `b` less that of `a`. Each run is a log and
a worker of its own. In A/A the arms are the same, and each run is another world. In A/B the lists of `b` are more diverse than the users are,
and each world is dealt twice: who is in `a` in one run is in `b` in the other. The same users come at the same times in both, so what the lists
of `b` bring by the chances of the world, less what those of `a` bring, over both runs, is the `truth` of that world.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.experiments.experiment_records import create, experiments, read_experiment, start
from streamer.experiments.report import ExperimentReport, newest_results, report_of
from streamer.feedback.carrying import carry_embedded
from streamer.feedback.counting import FeedbackCounting
from streamer.feedback.feedback_metrics import FeedbackMetrics
from tests.benchmarks.engine_shop import EngineShop, engine_shop
from tests.benchmarks.records import commit, machine
from tests.worlds.visits import PLACES, VisitWorld

RESULTS = Path(__file__).parent / "WHOLE_ENGINE.md"
USERS, ROUNDS, BEFORE = 400, 20, 1_000
CASES: dict[str, dict[str, Any]] = {
    "A/A": {},
    "A/B, a diversity of .3": {"diversity": 0.3},
    "A/B, a diversity of 1": {"diversity": 1.0},
}
OPPOSITE = {"more": "less", "less": "more"}


class Run(NamedTuple):
    """What came of an experiment. `worth`: by arm the mean chance of a click, of the places that were shown."""

    report: ExperimentReport
    worth: dict[str, float]


class Shown(NamedTuple):
    """What a report says of CTR in `b` less that in `a`."""

    users: dict[str, int]
    mismatch_p: float
    ctr: tuple[float, float]
    fixed: tuple[float, float]
    always: tuple[float, float]
    verdict: str


def experiment(seed: int, arm: dict[str, Any], mirrored: bool = False) -> Run:
    """One experiment from its start to its report. `mirrored`: who would be in `a` is in `b`, and the other way round."""
    world, brought = VisitWorld(seed, users=USERS, visits=0.5), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder, engine_shop(Path(folder), exclude_seen=True) as shop:
        arms = [{"name": "a", "share": 0.45}, {"name": "b", "share": 0.45} | arm]
        arms = arms[::-1] if mirrored else arms
        wanted = {"name": "x", "salt": f"salt {seed}", "holdback": 0.1, "arms": arms}
        create(shop.log, shop.settings, read_experiment(wanted), 1)
        start(shop.log, shop.settings, "x", 2)
        shop.send([_event(user, item, at) for user, item, at in world.before(BEFORE)], world.records())
        shop.wait_for_rules()
        for _ in range(ROUNDS):
            shop.send(items=world.round())
            for name, worth in _visit(shop, world):
                brought.setdefault(name, []).append(worth / PLACES)
        with FeedbackCounting(shop.log, shop.settings, FeedbackMetrics()) as counting:
            carry_embedded(shop.log, counting, lambda: False, exit_at_end=True)
        record = experiments(shop.log, shop.settings)["x"]
        report = report_of(record, newest_results(shop.log, shop.settings))
    return Run(report, {name: float(np.mean(worth)) for name, worth in brought.items()})


def _visit(shop: EngineShop, world: VisitWorld) -> Iterator[tuple[str, float]]:
    """A round. Gives the arm of each list, and what it is worth."""
    users = world.visitors()
    feedback, events = list[dict[str, Any]](), list[dict[str, Any]]()
    for user, told in zip(users, shop.lists([f"u{user}" for user in users], PLACES), strict=True):
        items = [int(one["item_id"][1:]) for one in told["items"]]
        yield told["experiment"]["arm"], world.worth(user, items)
        one = {"list_id": told["list_id"], "user_id": f"u{user}", "timestamp": world.now_ms + 1_000}
        feedback.append(one | {"event": "impression"})
        for place in world.look(user, items):
            feedback.append(one | {"event": "click", "item_id": f"i{items[place]}"})
            events.append(_event(user, items[place], world.now_ms + 1_000))
    shop.tell(feedback)
    shop.send(events)


def _event(user: int, item: int, at_ms: int) -> dict[str, Any]:
    return {"user_id": f"u{user}", "item_id": f"i{item}", "event_type": "click", "timestamp": at_ms}


def shown(report: ExperimentReport) -> Shown:
    """What a report says, whichever of the arms is the first."""
    one = next(one for one in report.differences if one.arm in "ab" and one.metric == "ctr")
    best = one.best
    assert best is not None
    assert one.first is not None
    assert one.value is not None
    users = {arm: report.users[arm] for arm in ("a", "b", "holdback")}
    p, fixed, always = report.mismatch_p or 0.0, (best.low, best.high), (best.always_low, best.always_high)
    if one.arm == "b":
        return Shown(users, p, (one.first, one.value), fixed, always, one.verdict)
    return Shown(
        users, p, (one.value, one.first), (-fixed[1], -fixed[0]), (-always[1], -always[0]),
        OPPOSITE.get(one.verdict, one.verdict),
    )  # fmt: skip


def runs_of(arm: dict[str, Any], runs: int) -> Iterator[tuple[Shown, float]]:
    """What each run shows, and the truth of its world."""
    if not arm:
        yield from ((shown(experiment(seed, arm).report), 0.0) for seed in range(runs))
        return
    for seed in range(runs // 2):
        both = [experiment(seed, arm, mirrored) for mirrored in (False, True)]
        truth = float(np.mean([run.worth["b"] - run.worth["a"] for run in both]))
        yield from ((shown(run.report), truth) for run in both)


def table(arm: dict[str, Any], runs: int) -> Iterator[str]:
    """A line for each run, and what they come to."""
    yield "| run | users | p of the shares | a | b | truth | difference, fixed | at any time | verdict |"
    yield "|---" * 9 + "|"
    fixed, always, verdicts = 0, 0, list[str]()
    for n, (one, truth) in enumerate(runs_of(arm, runs), 1):
        fixed += one.fixed[0] < truth < one.fixed[1]
        always += one.always[0] < truth < one.always[1]
        verdicts.append(one.verdict)
        users, ctr = ", ".join(f"{n}" for n in one.users.values()), " | ".join(f"{ctr:.4f}" for ctr in one.ctr)
        between = " | ".join(f"{low:+.4f} to {high:+.4f}" for low, high in (one.fixed, one.always))
        yield f"| {n} | {users} | {one.mismatch_p:.2f} | {ctr} | {truth:+.4f} | {between} | {one.verdict} |"
    told = ", ".join(f"{word} {verdicts.count(word)}" for word in sorted(set(verdicts)))
    yield ""
    yield f"The truth is inside of {fixed} of {runs} fixed intervals, and of {always} of those at any time. Verdicts: {told}."


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.whole_engine")
    parser.add_argument("--runs", type=int, default=10, help="experiments of each kind, an even number")
    given = parser.parse_args()
    lines = ["# Experiments that the whole engine runs", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines.append(f"`python -m tests.benchmarks.whole_engine --runs {given.runs}`, commit {commit()}, {machine()}.")
    for name, arm in CASES.items():
        lines += ["", f"## {name}", ""]
        for line in table(arm, given.runs):
            lines.append(line)
            print(line, flush=True)
        RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
