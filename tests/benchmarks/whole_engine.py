"""Experiments that the whole engine runs: python -m tests.benchmarks.whole_engine [--runs N] writes WHOLE_ENGINE.md.

The shop of `tests/worlds/visits.py` with 400 users, of whom half come in each of 20 rounds. A worker answers for it with an experiment
of two arms and a holdback of a tenth; every list that is asked for is shown, its clicks are sent as feedback and as
interactions, and what `freshet run feedback` counts of them is reported. In A/A the arms are the same, in A/B eight of
ten places of the second arm are drawn. Each run is a world, a log and a worker of its own.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

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
CASES: dict[str, dict[str, Any]] = {"A/A": {}, "A/B": {"explore": 0.8}}


def experiment(seed: int, arm: dict[str, Any]) -> ExperimentReport:
    """One experiment from its start to its report."""
    world = VisitWorld(seed, users=USERS, visits=0.5)
    with tempfile.TemporaryDirectory() as folder, engine_shop(Path(folder), exclude_seen=True) as shop:
        arms = [{"name": "a", "share": 0.45}, {"name": "b", "share": 0.45} | arm]
        wanted = {"name": "x", "salt": f"salt {seed}", "holdback": 0.1, "arms": arms}
        create(shop.log, shop.settings, read_experiment(wanted), 1)
        start(shop.log, shop.settings, "x", 2)
        shop.send([_event(user, item, at) for user, item, at in world.before(BEFORE)], world.records())
        shop.wait_for_rules()
        for _ in range(ROUNDS):
            shop.send(items=world.round())
            _visit(shop, world)
        with FeedbackCounting(shop.log, shop.settings, FeedbackMetrics()) as counting:
            carry_embedded(shop.log, counting, lambda: False, exit_at_end=True)
        record = experiments(shop.log, shop.settings)["x"]
        return report_of(record, newest_results(shop.log, shop.settings))


def _visit(shop: EngineShop, world: VisitWorld) -> None:
    users = world.visitors()
    feedback, events = list[dict[str, Any]](), list[dict[str, Any]]()
    for user, told in zip(users, shop.lists([f"u{user}" for user in users], PLACES), strict=True):
        items = [int(one["item_id"][1:]) for one in told["items"]]
        one = {"list_id": told["list_id"], "user_id": f"u{user}", "timestamp": world.now_ms + 1_000}
        feedback.append(one | {"event": "impression"})
        for place in world.look(user, items):
            feedback.append(one | {"event": "click", "item_id": f"i{items[place]}"})
            events.append(_event(user, items[place], world.now_ms + 1_000))
    shop.tell(feedback)
    shop.send(events)


def _event(user: int, item: int, at_ms: int) -> dict[str, Any]:
    return {"user_id": f"u{user}", "item_id": f"i{item}", "event_type": "click", "timestamp": at_ms}


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.whole_engine")
    parser.add_argument("--runs", type=int, default=10, help="experiments of each kind")
    given = parser.parse_args()
    lines = ["# Experiments that the whole engine runs", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines.append(f"`python -m tests.benchmarks.whole_engine --runs {given.runs}`, commit {commit()}, {machine()}.")
    for name, arm in CASES.items():
        rows = [
            "",
            f"## {name}",
            "",
            "| run | users | p of the shares | a | b | difference, fixed | at any time | verdict |",
        ]
        rows.append("|---" * 8 + "|")
        missed = 0
        for seed in range(given.runs):
            report = experiment(seed, arm)
            one = next(one for one in report.differences if (one.arm, one.metric) == ("b", "ctr"))
            assert one.best is not None
            assert one.first is not None
            assert one.value is not None
            best, users = one.best, ", ".join(f"{n}" for n in report.users.values())
            missed += not best.low < 0 < best.high
            rows.append(
                f"| {seed + 1} | {users} | {report.mismatch_p or 0:.2f} | {one.first:.4f} | {one.value:.4f} "
                f"| {best.low:+.4f} to {best.high:+.4f} | {best.always_low:+.4f} to {best.always_high:+.4f} | {one.verdict} |"
            )
            print(rows[-1], flush=True)
        rows += ["", f"0 is outside of {missed} of {given.runs} fixed intervals."]
        print(rows[-1], flush=True)
        lines += rows
        RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
