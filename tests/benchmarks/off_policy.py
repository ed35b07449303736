"""Off-policy estimates beside the truth: python -m tests.benchmarks.off_policy [--runs N] writes OFF_POLICY.md.

Twenty ways of making lists in the world of `tests/worlds/dealt_lists.py`, whose truth is known: three kinds of users, 12
items, 4 places, lists drawn by the exploration of live ones. Each run draws a log of lists with their clicks anew, and
judges all twenty by it. Bias and width (half of the mean interval) are in clicks a list; coverage is how often the truth
lies in the 95 % interval. `counts as`: the effective sample size of the place that has least.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamer.evaluation.off_policy import off_policy
from tests.benchmarks.records import commit, machine
from tests.worlds.dealt_lists import DealtWorld

RESULTS = Path(__file__).parent / "OFF_POLICY.md"
NAMES = {"ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}
LOGS = ((0.2, 6_000), (0.05, 6_000), (0.05, 24_000))


class Judged(NamedTuple):
    """One policy over all runs: refusals, effective sizes, and estimator → value, low, high of each run."""

    refused: list[str]
    effective: list[float]
    found: dict[str, list[tuple[float, float, float]]]


def judge(world: DealtWorld, explore: float, lists: int, runs: int) -> dict[str, Judged]:
    """Every policy by `runs` logs."""
    random = np.random.default_rng(round(1_000 * explore) + lists)
    told = {policy.name: Judged([], [], defaultdict(list)) for policy in world.policies()}
    for _ in range(runs):
        shown, kind = world.log(random, lists, explore)
        for policy in world.policies():
            found, judged = off_policy(shown, world.lists_of(policy, kind, random)), told[policy.name]
            judged.effective.append(found.effective)
            if found.refusal is not None:
                judged.refused.append(found.refusal)
            for name, one in found.estimates.items():
                judged.found[name].append((one.value, one.low, one.high))
    return told


def rows(world: DealtWorld, told: dict[str, Judged], runs: int) -> list[str]:
    lines = [
        "| policy | truth | counts as | refused |"
        + "".join(f" {name}: bias | width | coverage |" for name in NAMES.values()),
        "|---" * (4 + 3 * len(NAMES)) + "|",
    ]
    every: dict[str, list[np.ndarray]] = defaultdict(list)
    for policy in world.policies():
        judged, truth = told[policy.name], world.truth(policy)
        line = f"| {policy.name} | {truth:.4f} | {np.mean(judged.effective):,.0f} | {len(judged.refused) / runs:.0%} |"
        for name in NAMES:
            values = np.array(judged.found[name])
            if not len(values):
                line += " – | – | – |"
                continue
            inside = (values[:, 1] < truth) & (truth < values[:, 2])
            every[name].append(np.column_stack([values[:, 0] - truth, (values[:, 2] - values[:, 1]) / 2, inside]))
            bias, width, coverage = every[name][-1].mean(0)
            line += f" {bias:+.4f} | {width:.4f} | {coverage:.1%} |"
        lines.append(line)
    line = "| all | | | |"
    for name in NAMES:
        bias, width, coverage = np.concatenate(every[name]).mean(0)
        line += f" {bias:+.4f} | {width:.4f} | {coverage:.1%} |"
    return [*lines, line]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.off_policy")
    parser.add_argument("--runs", type=int, default=200, help="logs that are drawn")
    given = parser.parse_args()
    world = DealtWorld(0)
    lines = ["# Off-policy estimates beside the truth", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines.append(f"`python -m tests.benchmarks.off_policy --runs {given.runs}`, commit {commit()}, {machine()}.")
    for explore, size in LOGS:
        runs = given.runs if size < 10_000 else max(given.runs // 4, 1)
        told = judge(world, explore, size, runs)
        lines += ["", f"## {explore:.0%} of the places are drawn, {size:,} lists, {runs} runs", ""]
        lines += rows(world, told, runs)
        print("\n".join(lines[-5:]), flush=True)
    RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
