"""What is held out is asked for from the state of its moment, and leaves no trace."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.cli.main import main
from streamer.engine.engine import Engine
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.settings import Settings
from tests.worlds import MINUTE_MS, Events, checkerboard, repeat_buyer, table_of
from tgn.serialization import all_pages

STREAM = checkerboard(users=20, items=30, events=900)
ASKED = [(user, item, t - 1) for user, item, t in STREAM[1::45]]


def asked_lists(out: Path, settings: Settings, held: pa.Table, stream: Events = STREAM, **options: int) -> list[dict]:  # type: ignore[type-arg]
    replay(table_of(stream), settings, ReplayOptions(lists_out=out, ask=held, **options))  # type: ignore[arg-type]
    rows: list[dict] = pq.read_table(out).to_pylist()  # type: ignore[type-arg]
    return sorted(rows, key=lambda row: int(row["event"]))


@pytest.mark.parametrize(("exclude_seen", "stale"), [(False, 1), (True, 1), (False, 100)])
def test_a_list_is_that_of_the_state_of_its_moment(
    exclude_seen: bool, stale: int, settings: Settings, tmp_path: Path
) -> None:
    chosen = settings.model_copy(update={"exclude_seen": exclude_seen, "k": 8})
    rows = asked_lists(tmp_path / "lists", chosen, table_of(ASKED), stale=stale)
    assert [row["event"] for row in rows] == list(range(len(ASKED)))
    for n, (user, _, t) in enumerate(ASKED):
        at = (1 + 45 * n) // stale * stale  # the first row of its block
        engine = Engine(chosen)
        if at:
            replay(table_of(STREAM[:at]), chosen, ReplayOptions(stale=stale), engine=engine)
        assert (rows[n]["user_id"], rows[n]["timestamp"]) == (user, t)
        if engine.model.users.get(user) is not None:
            assert rows[n]["items"] == engine.recommend(user, t)


def test_nothing_of_it_is_learned_or_observed(settings: Settings, tmp_path: Path) -> None:
    engines = [Engine(settings), Engine(settings)]
    held = [*ASKED, ("nobody", "i0", 7 * MINUTE_MS + 1), ("u1", "never", 9 * MINUTE_MS + 1)]
    held.sort(key=lambda event: event[2])
    ask = ReplayOptions(ask=table_of(held), lists_out=tmp_path / "lists")
    asked, alone = (
        replay(table_of(STREAM), settings, options, engine=engine)
        for options, engine in zip((ask, ReplayOptions()), engines, strict=True)
    )
    for name, figures in alone.quality.figures(20).items():
        assert asked.quality.figures(20)[name] == pytest.approx(figures)
    assert (asked.users, asked.items) == (alone.users, alone.items)
    assert dict(all_pages(engines[0].model)) == dict(all_pages(engines[1].model))
    lists = {row["event"]: row for row in pq.read_table(tmp_path / "lists").to_pylist()}
    assert all(lists[n]["items"] for n, (_, _, t) in enumerate(held) if t > MINUTE_MS)  # somebody unknown too


def test_it_is_measured_and_what_is_refused_is_a_miss(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = repeat_buyer(users=20, events=400)
    last = events[-1][2]
    lines = [f"{user},{item},view,{t}" for user, item, t in events]
    held = [f"u{n},i{n},view,{last + n}" for n in range(20)]
    for name, rows in (("events", lines), ("held", [*held, "u1,i1,view,soon"])):
        (tmp_path / f"{name}.csv").write_text("user_id,item_id,event_type,timestamp\n" + "\n".join(rows))
    out = tmp_path / "lists.parquet"
    command = ["replay", str(tmp_path / "events.csv"), "--ask", str(tmp_path / "held.csv")]
    assert main([*command, "--lists-out", str(out), "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)["asked"]
    assert asked == pytest.approx({"lists": 21, "hr@10": 20 / 21, "ndcg@10": 20 / 21, "mrr": 20 / 21}, abs=1e-4)
    rows = {row["event"]: row for row in pq.read_table(out).to_pylist()}
    assert len(rows) == 21
    assert rows[20]["items"] == []
    assert [rows[n]["items"][0] for n in range(20)] == [f"i{n}" for n in range(20)]
    for wrong in (["--observe-only"], ["--learn-until", "0.5"]):
        assert main([*command, *wrong]) == 2
        assert "--ask is answered by a model that learns" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "held.csv"), str(out), "--after", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"]["hr"] == pytest.approx(20 / 21)


def test_rows_that_weights_do_not_learn_from_are_observed(settings: Settings, tmp_path: Path) -> None:
    world, outs = table_of(STREAM), [tmp_path / "none", tmp_path / "all"]
    for out, learned in zip(outs, (np.zeros(len(world), bool), None), strict=True):
        replay(world, settings, ReplayOptions(lists_out=out, learned=learned))
    none, every = (pq.read_table(out)["items"].to_pylist() for out in outs)
    assert none != every
    assert [len(items) for items in none] == [len(items) for items in every]
