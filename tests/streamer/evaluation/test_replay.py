"""Replay: right answers in known worlds, the same bytes every time, and no peeking."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from consumers.files.interactions import read_interactions
from consumers.schemas import Item
from streamer.embeddings.registry import NodeVectors, write_version
from streamer.engine.engine import Engine
from streamer.evaluation.replay import ReplayOptions, ReplayResult, replay
from streamer.settings import Settings
from tests.worlds import MINUTE_MS, checkerboard, repeat_buyer, table_of, taste_shift
from tgn.config import PARTS, Part


def hit_rate(result: ReplayResult) -> float:
    return result.quality.figures(20)["hr@10"][0]


def test_a_repeat_buyer_is_shown_what_they_buy_first(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    events = repeat_buyer()
    replay(table_of(events), settings, ReplayOptions(lists_out=out))
    lists = pq.read_table(out)["items"].to_pylist()
    seen: set[str] = set()
    first = []
    for n, (user, item, _) in enumerate(events):
        if user in seen and n > len(events) // 2:
            first.append(lists[n][0] == item)
        seen.add(user)
    assert np.mean(first) > 0.99


def test_a_checkerboard_is_learned(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    events = checkerboard()
    replay(table_of(events), settings.model_copy(update={"k": 20}), ReplayOptions(lists_out=out))
    lists = pq.read_table(out)["items"].to_pylist()
    right = [
        np.mean([int(item[1:]) % 2 == int(events[n][0][1:]) % 2 for item in lists[n]])
        for n in range(len(events) * 4 // 5, len(events))
    ]
    assert np.mean(right) > 0.95  # by chance: 0.5


def test_a_shift_of_taste_is_followed(settings: Settings) -> None:
    events = taste_shift()
    few = settings.model_copy(update={"k": 1})
    figures = replay(table_of(events), few, ReplayOptions(measure_after=0.75)).quality.figures(few.k)
    assert figures["mrr"][0] > 0.9  # at K = 1 the share of right guesses; by chance: 0.2


def test_a_user_without_history_gets_what_is_popular(settings: Settings, tmp_path: Path) -> None:
    events = [(f"u{n}", f"i{n % 7 * (n % 3)}", n * MINUTE_MS) for n in range(2_000)]
    events.append(("newcomer", "i0", 2_000 * MINUTE_MS))
    out = tmp_path / "lists.parquet"
    replay(table_of(events), settings, ReplayOptions(lists_out=out))
    assert pq.read_table(out)["items"].to_pylist()[-1][0] == "i0"


def test_the_first_event_has_an_empty_list_and_nothing_to_come_is_listed(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    events = checkerboard(events=500)
    replay(table_of(events), settings, ReplayOptions(lists_out=out))
    known: set[str] = set()
    for (_, item, _), listed in zip(events, pq.read_table(out)["items"].to_pylist(), strict=True):
        assert set(listed) <= known
        assert len(set(listed)) == len(listed) == min(20, len(known))
        known.add(item)


def test_seen_items_are_never_listed(settings: Settings, tmp_path: Path) -> None:
    out, last = tmp_path / "lists.parquet", tmp_path / "last.parquet"
    events = checkerboard(events=3_000, items=200)
    strict = settings.model_copy(update={"exclude_seen": True})
    replay(table_of(events), strict, ReplayOptions(lists_out=out, last_lists_out=last))
    seen: dict[str, set[str]] = {}
    for (user, item, _), listed in zip(events, pq.read_table(out)["items"].to_pylist(), strict=True):
        assert not seen.get(user, set()) & set(listed)
        seen.setdefault(user, set()).add(item)
    for row in pq.read_table(last).to_pylist():
        assert not seen[row["user_id"]] & set(row["items"])


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_two_replays_write_the_same_bytes(settings: Settings, tmp_path: Path, exclude_seen: bool) -> None:
    table, settings = table_of(checkerboard()), settings.model_copy(update={"exclude_seen": exclude_seen})
    files = [tmp_path / name for name in ("a", "b", "la", "lb")]
    replay(table, settings, ReplayOptions(lists_out=files[0], last_lists_out=files[2]))
    replay(table, settings, ReplayOptions(lists_out=files[1], last_lists_out=files[3]))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[2].read_bytes() == files[3].read_bytes()


def test_the_seed_matters(settings: Settings, tmp_path: Path) -> None:
    table = table_of(checkerboard(events=2_000))
    for seed in (0, 1):
        replay(table, settings.model_copy(update={"seed": seed}), ReplayOptions(lists_out=tmp_path / str(seed)))
    assert (tmp_path / "0").read_bytes() != (tmp_path / "1").read_bytes()


def test_k_changes_only_how_much_of_the_list_is_shown(settings: Settings, tmp_path: Path) -> None:
    table = table_of(checkerboard(events=2_000))
    for k in (5, 20):
        replay(table, settings.model_copy(update={"k": k}), ReplayOptions(lists_out=tmp_path / str(k)))
    short, long = (pq.read_table(tmp_path / k)["items"].to_pylist() for k in ("5", "20"))
    assert short == [listed[:5] for listed in long]


def test_a_list_longer_than_the_pool_is_filled_by_popularity(settings: Settings, tmp_path: Path) -> None:
    events = [(f"u{n}", f"i{n % 700}", n * MINUTE_MS) for n in range(3_000)]
    wide = settings.model_copy(update={"k": 700, "every_item_below": 0})
    out = tmp_path / "lists.parquet"
    replay(table_of(events), wide, ReplayOptions(lists_out=out))
    listed = pq.read_table(out)["items"].to_pylist()[-1]
    assert len(listed) == len(set(listed)) == 700


def test_stale_state_is_worse_and_blocks_do_not_see_themselves(settings: Settings, tmp_path: Path) -> None:
    table = table_of(repeat_buyer(users=2_000))
    fresh = hit_rate(replay(table, settings, ReplayOptions()))
    out = tmp_path / "stale"
    stale = hit_rate(replay(table, settings, ReplayOptions(stale=500, lists_out=out)))
    assert stale < fresh
    assert all(listed == [] for listed in pq.read_table(out)["items"].to_pylist()[:500])


def test_weights_stay_after_learn_until(settings: Settings, tmp_path: Path) -> None:
    """Two streams that differ only after the quantile give other state, but a list may not know the later weights."""
    table = table_of(checkerboard(events=2_000))
    replay(table, settings, ReplayOptions(learn_until=0.0, lists_out=tmp_path / "frozen"))
    replay(table, settings, ReplayOptions(lists_out=tmp_path / "learned"))
    frozen, learned = (pq.read_table(tmp_path / name)["items"].to_pylist() for name in ("frozen", "learned"))
    assert frozen[:2] == learned[:2]
    assert frozen[-1] != learned[-1]


def test_bad_rows_are_counted_and_leave_the_rest_alone(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text(
        "user_id,item_id,event_type,timestamp\nu,a,view,1\n,a,view,2\nu,b,view,oops\nu,c,view,-3\nu,d,view,4\n"
    )
    out = tmp_path / "lists.parquet"
    result = replay(read_interactions(file), settings, ReplayOptions(lists_out=out))
    assert result.events == 5
    assert dict(result.dead) == {"bad-id": 1, "bad-timestamp": 2}
    assert sorted(pq.read_table(out)["event"].to_pylist()) == [0, 1, 2, 3, 4]


def test_an_event_id_counts_once(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    row = '{"user_id": "u", "item_id": "a", "event_type": "view", "timestamp": %d, "event_id": "%s"}\n'
    file.write_text("".join(row % (n, n % 3) for n in range(9)))
    assert replay(read_interactions(file), settings, ReplayOptions()).duplicates == 6


def test_equal_rows_without_an_id_all_count(settings: Settings) -> None:
    result = replay(table_of([("u", "a", 1)] * 5), settings, ReplayOptions())
    assert (result.events, result.duplicates) == (5, 0)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_left_out(settings: Settings, tmp_path: Path, part: Part) -> None:
    table, random = table_of(checkerboard(events=2_000, items=700)), np.random.default_rng(0)
    users, items = (
        NodeVectors([f"{side}{n}" for n in range(count)], random.normal(size=(count, 8)).astype(np.float32))
        for side, count in (("u", 40), ("i", 700))
    )
    write_version(tmp_path / "embeddings", {"version": "v", "until_ms": 0}, users, items)
    for name, without in (("whole", ()), ("part", (part,))):
        chosen = settings.model_copy(update={"without": without, "embeddings": tmp_path / "embeddings"})
        engine = Engine(chosen)
        for n in range(700):
            engine.introduce(Item(f"i{n}", categories=(f"c{n % 2}",)), 0)
        replay(table, chosen, ReplayOptions(lists_out=tmp_path / name), engine=engine)
    whole, left = (pq.read_table(tmp_path / name)["items"].to_pylist() for name in ("whole", "part"))
    assert whole != left
    assert all(len(set(listed)) == len(listed) for listed in left)
    assert len(left[-1]) == 20


@pytest.mark.parametrize(("stale", "lag_ms"), [(1, None), (50, None), (1, 50 * MINUTE_MS)])
def test_no_list_names_an_item_out_of_its_time(
    settings: Settings, tmp_path: Path, stale: int, lag_ms: int | None
) -> None:
    """However the stream is cut into chunks."""
    events = checkerboard(events=1_000)
    times = [t for _, _, t in events]
    spans = {f"i{n}": (times[20 * n], times[20 * n + 300]) for n in range(20)}
    items = [Item(id_, available_from=first, expires_at=end) for id_, (first, end) in spans.items()]
    for chunk in (100, 1_000):
        replay(
            table_of(events),
            settings,
            ReplayOptions(stale=stale, lag_ms=lag_ms, chunk=chunk, lists_out=tmp_path / str(chunk)),
            items=items,
        )
    lists, others = (pq.read_table(tmp_path / str(chunk))["items"].to_pylist() for chunk in (100, 1_000))
    named = [(t, id_) for t, listed in zip(times, lists, strict=True) for id_ in listed if id_ in spans]
    assert len(named) > 100
    assert all(spans[id_][0] <= t < spans[id_][1] for t, id_ in named)
    assert stale > 1 or lag_ms or lists == others


def test_a_block_tells_nothing_of_itself(settings: Settings, tmp_path: Path) -> None:
    """Two streams that differ in one item: within its block, only the ranker's few weights may have noticed."""
    events = checkerboard(events=1_000)
    user, _, t = events[800]
    frozen = settings.model_copy(update={"without": ("ranker",)})
    for name, item in (("a", "i0"), ("b", "i39")):
        changed = [*events[:800], (user, item, t), *events[801:]]
        replay(table_of(changed), frozen, ReplayOptions(stale=100, lists_out=tmp_path / name))
    a, b = (pq.read_table(tmp_path / name)["items"].to_pylist() for name in ("a", "b"))
    assert a[:900] == b[:900]
    assert a[900:] != b[900:]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "exclude_seen"), [("movietweetings", True), ("foursquare-nyc", False), ("deskdrop", False)]
)
def test_the_first_lists_are_no_worse_than_popularity(
    settings: Settings, stream: Callable[[str], Path], name: str, exclude_seen: bool
) -> None:
    table = read_interactions(stream(name)).slice(0, 1_000)
    chosen = settings.model_copy(update={"exclude_seen": exclude_seen})
    ours, popularity = replay(table, chosen, ReplayOptions(measure_after=0)).quality.figures(settings.k)["hr@10"]
    assert ours >= popularity
