"""Fifty explanations, checked: python -m tests.benchmarks.explanations writes EXPLANATIONS.md.

At the end of each stream, with everything learned, users are drawn by a seed, and of each one's list an item that the
user's history leads to. What is counted is how many of the items fall without the interactions that were named.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from consumers.files.interactions import read_items
from streamer.cli.commands.explain import ExplainedState, known_of_file
from streamer.lists.explanation import Explanation, explain, in_words, titles
from streamer.settings import Settings
from tests.benchmarks.records import FOLDER, commit, machine
from tests.benchmarks.streams import STREAMS
from tgn.asking.counterfactual import paths

RESULTS = Path(__file__).parent / "EXPLANATIONS.md"
EACH, SHOWN, K = 25, 5, 10
NAMES = ("movietweetings", "foursquare-nyc")


class Found(NamedTuple):
    """One explanation, and in words."""

    explanation: Explanation
    text: str


def explanations(name: str) -> list[Found]:
    """EACH of one stream."""
    stream = STREAMS[name]
    file = stream.file(FOLDER)
    settings = Settings(exclude_seen=stream.flag("--exclude-seen") is not None)
    known = known_of_file(file, settings)
    names = {
        item.item_id: item.title or " ".join(item.categories) for item in read_items(file.with_name("items.parquet"))
    }
    rng, found = np.random.default_rng(0), list[Found]()
    while len(found) < EACH:
        user = int(rng.integers(len(known.model.users)))
        listed = known.model.recommend(user, known.now_ms, K, settings.exclude_seen)
        led_to = [item for item in listed if paths(known.model, user, item, known.now_ms)]
        if led_to:
            found.append(_explained(known, settings, user, led_to[int(rng.integers(len(led_to)))], names))
    return found


def _explained(known: ExplainedState, settings: Settings, user: int, item: int, names: dict[str, str]) -> Found:
    explanation = explain(known.model, user, item, known.now_ms, known.histories, settings.exclude_seen)
    return Found(explanation, in_words(explanation, titles(names, known.model.items.ids)))


def main() -> int:
    lines, every = (
        [
            "| stream | hold | by one interaction of the user | by two | by three to five | by popularity |",
            "|---|---|---|---|---|---|",
        ],
        list[Found](),
    )
    for name in NAMES:
        found = explanations(name)
        every += found[:SHOWN]
        checks = [f.explanation.check for f in found]
        held = [check for check in checks if check and check.holds]
        sizes = np.array([len(check.removed) for check in held])
        counts = [(sizes == 1).sum(), (sizes == 2).sum(), (sizes > 2).sum(), (sizes == 0).sum()]
        lines.append(f"| {name} | {len(held)} of {len(found)} | {' | '.join(map(str, counts))} |")
        print(lines[-1], flush=True)
    shown = "\n\n".join(f"```\n{f.text}\n```" for f in every)
    RESULTS.write_text(
        f"# Explanations, checked\n\n`python -m tests.benchmarks.explanations`, commit {commit()}, {machine()}. An explanation "
        "holds where the item falls in place in the graph built again without the interactions that it names.\n\n"
        + "\n".join(lines) + f"\n\n{len(every)} of them to read:\n\n{shown}\n"
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
