"""Cold start: python -m tests.benchmarks.cold writes COLD.md.

Items: the record of each film arrives up to 30 days before its first interaction, by chance, and that is measured.
Users: the records are there from the start, and the first interaction of each user is measured, later ones beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions, read_items, read_users
from consumers.schemas import Item
from streamer.cli.demo_data import movielens_100k
from streamer.engine.engine import Engine
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.features.tables import weigh_rows
from streamer.settings import Settings
from tests.benchmarks.records import commit, machine
from tests.conftest import DATA
from tgn.config import DAY_MS, Part
from tgn.model import Model

RESULTS = Path(__file__).parent / "COLD.md"
MOST_LEAD_MS, WAITING = 30 * DAY_MS, 1_000  # films that wait are fewer
AT, EARLY = 10, 5  # places that count; interactions of a user that are still early


class Share(NamedTuple):
    """HR@10 over some events."""

    hits: float
    events: int

    def __str__(self) -> str:
        return f"{self.hits:.4f}"


def share(rank: np.ndarray) -> Share:
    """ranks [N] from 1, 0: missed."""
    return Share(float(((rank > 0) & (rank <= AT)).mean()), len(rank))


def cold_items(without: Sequence[Part], all_wait: bool) -> dict[str, Share]:
    """movietweetings, first interactions in the second half: in the whole list, and among what nobody has touched.

    all_wait: every film that nobody has rated is a candidate, not only what the model's sources name.
    """
    folder = DATA / "movietweetings"
    table = read_interactions(folder / "interactions.parquet")
    known = {item.item_id: item for item in read_items(folder / "items.parquet")}
    settings = Settings(exclude_seen=True, without=tuple(without), k=WAITING)
    engine, weight = Engine(settings), weigh_rows(table, EventWeights(settings.event_weights))
    if all_wait:
        engine.model = Model(replace(engine.model.config, newest=WAITING))
    ids, t = table["item_id"].to_pylist(), table["timestamp"].to_numpy()
    first = {item: n for n, item in reversed(list(enumerate(ids)))}
    lead_ms = np.random.default_rng(0).integers(0, MOST_LEAD_MS, len(first))
    opened = sorted((int(t[n] - lead), item) for (item, n), lead in zip(first.items(), lead_ms, strict=True))
    cuts = [*np.searchsorted(t, [at for at, _ in opened]).tolist(), len(table)]
    touched = np.array([first[item] for _, item in opened])  # by node: the event that touches it first
    rank, among, newest = (np.zeros(len(table), np.int64) for _ in range(3))
    for n, (at, item) in enumerate(opened):
        engine.introduce(known.get(item, Item(item)), max(at, 0))
        begin, end = cuts[n], cuts[n + 1]
        if end == begin:
            continue
        columns = engine.encode_table(table.slice(begin, end - begin), weight[begin:end])
        outcome = engine.take(columns, publish=False)
        rank[begin:end] = outcome.rank
        for event in np.flatnonzero(touched[columns.item] == np.arange(begin, end)).tolist():
            listed = outcome.test.item[event][: outcome.test.size[event]]
            waiting = listed[touched[listed] >= begin + event]
            place = np.flatnonzero(waiting == columns.item[event])
            among[begin + event] = place[0] + 1 if len(place) else 0
            newest[begin + event] = (touched[columns.item[event] : n + 1] >= begin + event).sum()
    cold = touched[touched >= len(table) // 2]
    return {"listed": share(rank[cold]), "among": share(among[cold]), "newest": share(newest[cold])}


def cold_users(told: bool, without: Sequence[Part]) -> dict[str, Share]:
    """MovieLens-100k: first and early interactions of users in the second half of the stream."""
    files = movielens_100k()
    table, settings = read_interactions(files.interactions), Settings(exclude_seen=True, without=tuple(without))
    engine, ranks, popular = Engine(settings), list[np.ndarray](), list[np.ndarray]()
    for user in read_users(files.users) if told else ():
        engine.describe(user)
    replay(
        table, settings, ReplayOptions(), engine=engine,
        watch=lambda taken: (ranks.append(taken.outcome.rank), popular.append(taken.outcome.popularity_rank)),
    )  # fmt: skip
    rank, by_popularity = np.concatenate(ranks), np.concatenate(popular)
    seen: dict[str, int] = {}
    nth = np.zeros(len(table), np.int32)
    for n, user in enumerate(table["user_id"].to_pylist()):
        nth[n] = seen[user] = seen.get(user, 0) + 1
    late = np.arange(len(table)) >= len(table) // 2
    one, early = late & (nth == 1), late & (nth > 1) & (nth <= EARLY)
    return {"first": share(rank[one]), "early": share(rank[early]), "popular": share(by_popularity[one])}


def main() -> int:
    items, without = cold_items((), False), cold_items(("content",), False)
    every, every_without = cold_items((), True), cold_items(("content",), True)
    told, cold, bare = cold_users(True, ()), cold_users(False, ()), cold_users(False, ("context",))
    lines = [
        "# Cold start", "", __doc__.split("\n\n")[1].replace("\n", " "), "",
        f"Commit {commit()}, {machine()}. HR@{AT}.", "",
        f"| films of movietweetings, {items['listed'].events:,} first interactions | in the list | among films nobody has rated yet |",
        "|---|---|---|",
        f"| with titles and categories | {items['listed']} | {items['among']} |",
        f"| without | {without['listed']} | {without['among']} |",
        f"| with, every film that waits a candidate | {every['listed']} | {every['among']} |",
        f"| without, every film that waits a candidate | {every_without['listed']} | {every_without['among']} |",
        f"| the {AT} newest | | {items['newest']} |", f"| the {AT} most popular | 0 | |", "",
        f"| users of MovieLens-100k | {told['first'].events:,} first interactions | {told['early'].events:,} of 2 to {EARLY} |",
        "|---|---|---|",
        f"| with age, gender, occupation | {told['first']} | {told['early']} |",
        f"| without; that somebody is new is learned from | {cold['first']} | {cold['early']} |",
        f"| without that | {bare['first']} | {bare['early']} |",
        f"| the {AT} most popular, decayed | {told['popular']} | |", "",
    ]  # fmt: skip
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
