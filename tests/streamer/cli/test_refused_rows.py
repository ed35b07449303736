"""What the commands that read a stream say of rows that they cannot take, and what `produce` makes of them."""

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from consumers.files.interactions import Reading, digest_of_file, read_file
from consumers.log import Log
from consumers.records import Record
from streamer.cli.main import main
from streamer.runtime.topics import open_log_of, read_records, whole
from streamer.settings import Settings
from tests.worlds import checkerboard

HEAD = "user_id,item_id,event_type,timestamp\n"
EVENTS = checkerboard(users=20, items=20, events=300)
GOOD = [f"{u},{i},view,{t}\n" for u, i, t in EVENTS]


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """300 good rows, one of a time that nobody can read and one without an event type, in front."""
    file = tmp_path / "mixed.csv"
    file.write_text(HEAD + "u,i,view,11/11/2019 9:11 AM\nu,i,,5\n" + "".join(GOOD))
    return str(file)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """Rows of which none is good."""
    file = tmp_path / "bad.csv"
    file.write_text(HEAD + "u,i,view,11/11/2019 9:11 AM\n" * 5)
    return str(file)


def commands(file: str, folder: Path) -> dict[str, list[str]]:
    """Every command that reads a stream of a file."""
    pq.write_table(pq.read_table(lists(folder)), folder / "lists.parquet")
    for name in ("a.toml", "b.toml"):
        (folder / name).write_text("")
    log = ["--log", str(folder / "log")]
    return {
        "replay": ["replay", file],
        "observe": ["replay", file, "--observe-only"],
        "evaluate": ["evaluate", file, str(folder / "lists.parquet")],
        "explain": ["explain", "u0", "--file", file],
        "compare": ["compare", str(folder / "a.toml"), str(folder / "b.toml"), file],
        "produce": ["produce", file, *log],
    }


def lists(folder: Path) -> Path:
    import pyarrow as pa

    path = folder / "some.parquet"
    pq.write_table(pa.table({"event": [3], "items": [["i1"]]}), path)
    return path


COMMANDS = ("replay", "observe", "evaluate", "explain", "compare", "produce")


@pytest.mark.parametrize("name", COMMANDS)
def test_refused_rows_are_counted_and_named(
    name: str, mixed: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["topics", "create", "--log", str(settings.log)]) == 0
    capsys.readouterr()
    command = commands(mixed, tmp_path)[name]
    if name == "compare":
        command += ["--measure-after", "0.2"]
    assert main([*command, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["refused"] == {"bad-timestamp": 1, "missing-field": 1}
    assert "2 of 302 rows refused: 1 bad-timestamp, 1 missing-field" in told.err
    assert "the first: line 2, timestamp '11/11/2019 9:11 AM'" in told.err
    assert "warning" not in told.err  # under 1 %


@pytest.mark.parametrize("name", COMMANDS)
def test_no_good_row_and_strictness_are_errors(
    name: str, mixed: str, bad: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["topics", "create", "--log", str(settings.log)]) == 0
    assert main(commands(bad, tmp_path)[name]) == 3
    assert "5 of 5 rows refused: 5 bad-timestamp; the first: line 2" in capsys.readouterr().err
    assert main([*commands(mixed, tmp_path)[name], "--strict"]) == 3
    assert "2 of 302 rows refused" in capsys.readouterr().err
    with closing(open_log_of(settings)) as log:
        assert sum(log.ends(settings.interactions_topic).values()) == 0  # nothing was sent of either


def test_above_one_percent_it_is_a_warning_with_what_would_be_taken(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEAD + "u,i,view,soon\n" * 9 + "".join(GOOD))
    assert main(["replay", str(file), "--observe-only"]) == 0
    said = capsys.readouterr().err
    assert "freshet: warning: " in said
    assert "timestamp 'soon'" in said
    assert "--time-format" in said


def test_seconds_are_suspected(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEAD + "u,i,view,1573463494\nv,i,view,1573464339\n")
    assert main(["replay", str(file), "--observe-only"]) == 0
    assert "--time-unit s`" in capsys.readouterr().err
    assert main(["replay", str(file), "--observe-only", "--time-unit", "s"]) == 0
    assert "1970" not in capsys.readouterr().err


def test_items_that_are_refused_are_named_too(
    tmp_path: Path, mixed: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"item_id":"i1","title":"A"}\n{"item_id":""}\n{"item_id":"i2","title":["x"]}\n')
    assert main(["replay", mixed, "--observe-only", "--items", str(items)]) == 0
    said = capsys.readouterr().err
    assert "items.jsonl: 1 of 3 rows refused: 1 bad-id; the first: line 2" in said
    assert "1 field is left out; the first: line 3: title is left out" in said
    assert main(["topics", "create", "--log", str(settings.log)]) == 0
    capsys.readouterr()
    produce = ["produce", str(items), "--kind", "items", "--log", str(settings.log), "--json"]
    assert main(produce) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["sent"], summary["refused"]) == (2, {"bad-id": 1})
    assert main([*produce, "--strict"]) == 3


# produce


def sent(log: Log, topic: str) -> list[Record]:
    return sorted(read_records(log, whole(log, topic)), key=lambda record: int(dict(record.headers)["freshet-row"]))


def test_produce_numbers_rows_and_keeps_what_it_refuses(mixed: str, settings: Settings) -> None:
    assert main(["topics", "create", "--log", str(settings.log)]) == 0
    assert main(["produce", mixed, "--log", str(settings.log)]) == 0
    digest = digest_of_file(Path(mixed))
    assert len(digest) == 16
    reasons = read_file(Path(mixed), Reading()).table["reason"].to_pylist()
    with closing(open_log_of(settings)) as log:
        records = sent(log, settings.interactions_topic)
    assert [int(dict(record.headers)["freshet-row"]) for record in records] == list(range(302))
    values: list[Any] = [json.loads(record.value or b"") for record in records]
    for n, (value, reason) in enumerate(zip(values, reasons, strict=True)):
        if reason is None:
            assert value["event_id"] == f"{digest}-{n}"
    assert values[-1] == {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": "11/11/2019 9:11 AM"}
    assert main(["run", "--log", str(settings.log), "--exit-at-end"]) == 0
    with closing(open_log_of(settings)) as log:
        dead = list(read_records(log, whole(log, settings.dead_topic)))
    told = {dict(record.headers)["freshet.reason"]: json.loads(record.value or b"") for record in dead}
    assert told.keys() == {b"bad-timestamp", b"missing-field"}
    assert told[b"bad-timestamp"]["timestamp"] == "11/11/2019 9:11 AM"


def test_produce_says_how_many_will_be_dead_letters(
    mixed: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == 0
    capsys.readouterr()
    assert main(["produce", mixed, *log]) == 0
    assert "302 records sent" in (said := capsys.readouterr().out)
    assert "2 of these will be dead letters" in said
    assert main(["produce", mixed, *log, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dead_letters"] == 2
    good = tmp_path / "good.csv"
    good.write_text(HEAD + "".join(GOOD))
    assert main(["produce", str(good), *log]) == 0
    assert "dead" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["user_id", "item_id"])
def test_the_limit_of_an_id_is_told_once(
    name: str, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEAD + {"user_id": ",i,view,1\n", "item_id": "u,,view,1\n"}[name] + "".join(GOOD))
    assert main(["replay", str(file), "--observe-only"]) == 0
    said = capsys.readouterr().err
    assert len(re.findall("1,?024", said)) == 1
    assert "an integer" in said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"u,i,view", "the line has 3 fields, the file 4 columns"),
        (b"u", "the line has 1 field, the file 4 columns"),
        (b"u,i,view,1,2", "the line has 5 fields, the file 4 columns"),
        (b'u,"i,view,1', "a quote does not enclose its whole cell"),
        (b'"u","i,i","view"', "the line has 3 fields, the file 4 columns"),
        (b"u,\xff,view,1", "the line is no UTF-8"),
    ],
)
def test_what_is_wrong_with_a_line_of_a_csv_is_said(
    line: bytes, why: str, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    rest = "".join(GOOD).replace("u1,", '"u1",') if b'"' in line else "".join(GOOD)
    file.write_bytes(HEAD.encode() + line + b"\n" + rest.encode())
    assert main(["replay", str(file), "--observe-only"]) == 0
    said = capsys.readouterr().err
    assert "1 not-a-row; the first: line 2" in said
    assert why in said
    assert "malformed" not in said


def test_lists_of_run_have_the_numbers_of_the_rows(mixed: str, settings: Settings, tmp_path: Path) -> None:
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log, "--partitions", "3"]) == 0
    assert main(["produce", mixed, *log]) == 0
    assert main(["run", *log, "--exit-at-end", "--lists-out", str(tmp_path / "run.parquet")]) == 0
    numbers = pq.read_table(tmp_path / "run.parquet")["event"].to_pylist()
    reasons = read_file(Path(mixed), Reading()).table["reason"].to_pylist()
    assert sorted(numbers) == [n for n, reason in enumerate(reasons) if reason is None]


def test_a_foreign_id_of_digits_is_no_number_of_a_row(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [
        {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": n, "event_id": str(900 + n)}
        for n in range(5)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == 0
    assert main(["produce", str(file), *log]) == 0
    assert main(["run", *log, "--exit-at-end", "--lists-out", str(tmp_path / "run.parquet")]) == 0
    assert sorted(pq.read_table(tmp_path / "run.parquet")["event"].to_pylist()) == [0, 1, 2, 3, 4]


def test_rows_of_the_wire_form_arrive_as_they_were(settings: Settings, tmp_path: Path) -> None:
    row = {"user_id": "a", "item_id": "i", "event_type": "buy", "timestamp": 1, "event_id": "e", "value": 2.5,
           "session_id": "s", "context": {"device": "ios", "page": {"n": 1}}}  # fmt: skip
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"retract": True, "timestamp": 2}))
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == 0
    assert main(["produce", str(file), *log]) == 0
    with closing(open_log_of(settings)) as opened:
        first, second = (json.loads(record.value or b"") for record in sent(opened, settings.interactions_topic))
    assert first == row
    assert second == row | {"retract": True, "timestamp": 2}


# retractions


def with_retractions(folder: Path, every: int = 7) -> tuple[Path, Path]:
    """A stream in which every seventh interaction is taken back at its end, and the stream without these."""
    rows = [
        {"user_id": u, "item_id": i, "event_type": "view", "timestamp": t, "event_id": f"e{n}"}
        for n, (u, i, t) in enumerate(EVENTS)
    ]
    end = EVENTS[-1][2]
    back = [row | {"retract": True, "timestamp": end} for n, row in enumerate(rows) if n % every == 0]
    whole_stream, clean = folder / "whole.jsonl", folder / "clean.jsonl"
    whole_stream.write_text("\n".join(map(json.dumps, [*rows, *back])))
    clean.write_text("\n".join(json.dumps(row) for n, row in enumerate(rows) if n % every))
    return whole_stream, clean


def test_replay_takes_back_what_the_stream_takes_back(settings: Settings, tmp_path: Path) -> None:
    from consumers.files.interactions import read_interactions
    from streamer.engine.engine import Engine
    from streamer.evaluation.replay import ReplayOptions, replay
    from streamer.features.topic_table import read_topic
    from streamer.worker.worker import Worker
    from tests.canonical import canonical

    file, clean = with_retractions(tmp_path)
    graphs = []
    for path in (file, clean):
        engine = Engine(settings)
        result = replay(read_interactions(path), settings, ReplayOptions(), engine=engine)
        graphs.append(canonical(engine.model))
        assert bool(result.retractions) == (path == file)
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log, "--partitions", "1"]) == 0
    assert main(["produce", str(file), *log]) == 0
    with closing(open_log_of(settings)) as opened:
        engine = Engine(settings)
        table = read_topic(opened, settings.interactions_topic, settings).table
        assert replay(table, settings, ReplayOptions(), engine=engine).duplicates == 0
        graphs.append(canonical(engine.model))
        worker = Worker.open(opened, settings)
        worker.run(exit_at_end=True)
        graphs.append(canonical(worker.state.engine.model))
        worker.close()
    replayed, without, topic, live = graphs
    for other in (without, topic, live):
        for part in ("users", "items", "pairs", "known"):
            assert close(replayed[part], other[part]), part


def close(a: Any, b: Any) -> bool:
    """Equal, floats within the precision that undo promises."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(np.isclose(a, b, rtol=1e-5, atol=1e-6)) if isinstance(a, float) else bool(a == b)


def test_a_retraction_may_come_first_and_bad_ones_are_refused(settings: Settings, tmp_path: Path) -> None:
    row = {"user_id": "a", "item_id": "i", "event_type": "view", "event_id": "e"}
    rows = [row | {"timestamp": 1, "retract": True}, row | {"timestamp": 2}, row | {"timestamp": 3, "user_id": "b"},
            {**row, "timestamp": 4, "retract": True, "event_id": None}]  # fmt: skip
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    from consumers.files.interactions import read_interactions
    from streamer.evaluation.replay import ReplayOptions, replay

    result = replay(read_interactions(file), settings, ReplayOptions())
    assert (result.duplicates, dict(result.dead), result.users) == (1, {"missing-field": 1}, 1)


def test_last_lists_of_a_replay_know_what_was_taken_back(settings: Settings, tmp_path: Path) -> None:
    row = {"event_type": "view"}
    rows = [
        row | {"user_id": f"u{n % 5}", "item_id": f"i{n % 7}", "timestamp": n, "event_id": f"e{n}"} for n in range(60)
    ]
    rows += [row | {"user_id": "once", "item_id": "i1", "timestamp": 70, "event_id": "x"}]
    rows += [row | {"user_id": "once", "item_id": "i1", "timestamp": 80, "event_id": "x", "retract": True}]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert main(["replay", str(file), "--last-lists-out", str(tmp_path / "last.parquet")]) == 0
    assert set(pq.read_table(tmp_path / "last.parquet")["user_id"].to_pylist()) == {f"u{n}" for n in range(5)}


def test_a_training_leaves_out_what_was_taken_back(tmp_path: Path) -> None:
    from consumers.files.interactions import read_interactions
    from streamer.features.tables import counted_rows

    file, clean = with_retractions(tmp_path)
    counted = counted_rows(read_interactions(file)).select(["user_id", "item_id", "timestamp"])
    assert counted.equals(read_interactions(clean).select(["user_id", "item_id", "timestamp"]))
    twice = tmp_path / "twice.jsonl"
    twice.write_text(clean.read_text() + "\n" + clean.read_text())
    assert len(counted_rows(read_interactions(twice))) == len(counted)


def test_contexts_of_the_wire_form_count_as_columns_do(settings: Settings, tmp_path: Path) -> None:
    from consumers.files.interactions import read_interactions
    from streamer.features.contexts import rows_of_table

    rows = [
        {"user_id": "a", "item_id": "i", "event_type": "view", "timestamp": n, "context": {"device": d}}
        for n, d in enumerate(["ios", "web", 5])
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.csv").write_text(
        "user_id,item_id,event_type,timestamp,device\na,i,view,0,ios\na,i,view,1,web\na,i,view,2,5\n"
    )
    found = [rows_of_table(read_interactions(tmp_path / name)) for name in ("a.jsonl", "a.csv")]
    assert (found[0] == found[1]).all()
    assert len(np.unique(found[0], axis=0)) == 3
