"""Every command that reads a log, a state or rules, where an experiment has a challenger: in shadow, running, stopped."""

import json
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.runtime.topics import topic_names
from streamer.settings import Settings

EXPERIMENT = """
name: newer
holdback: 0.1
guards: [{metric: ctr, by: 0.5}]
arms:
  - {name: as-now, share: 0.4}
  - {name: faster, share: 0.5, model: {learning_rate: 0.003, hidden: 8}}
"""


def rows(first: int, count: int) -> str:
    lines = [f"u{n % 7},i{n * n % 11},view,{1_700_000_000_000 + 1_000 * n}" for n in range(first, first + count)]
    return "\n".join(["user_id,item_id,event_type,timestamp", *lines])


def test_they_take_it_or_refuse_it_in_a_line(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--log", str(settings.log)]

    def said(*command: str, code: int = 0) -> str:
        found = main([*command, *here])
        out, err = capsys.readouterr()
        assert found == code, f"{command}: {err}"
        return out or err

    def file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    stream = file("all.csv", rows(0, 240))
    said("topics", "create", "--partitions", "1")
    said("experiment", "create", file("newer.yaml", EXPERIMENT))
    said("produce", file("0.csv", rows(0, 80)))
    said("run", "--exit-at-end")
    for n, action in enumerate(("shadow", "start", "stop"), 1):
        said("experiment", action, "newer")
        said("produce", file(f"{n}.csv", rows(80 * n, 80)))
        said("run", "--exit-at-end")
        shown = json.loads(said("tail", "recommendations", "--exit-at-end").splitlines()[-1])["value"]
        list_id, user = shown["list_id"], shown["user_id"]
        clicked = {"list_id": list_id, "user_id": user, "event": "click", "item_id": shown["items"][0]["item_id"]}
        clicked["timestamp"] = shown["as_of"]["timestamp"]
        with OwnedLog(tmp_path / "log") as log:
            told = [clicked | {"event": "impression"}, clicked]
            log.append([NewRecord("feedback", user.encode(), json.dumps(one).encode()) for one in told])
        said("run", "feedback", "--exit-at-end")
        for topic in topic_names(settings).values():
            for line in said("tail", topic, "--exit-at-end").splitlines():
                json.loads(line)
        assert "faster 0.5" in said("experiment", "status")
        assert "newer on default: " in said("experiment", "report", "newer")
        json.loads(said("experiment", "report", "newer", "--json"))
        said("experiment", "report", "newer", "--html", str(tmp_path / "report.html"))
        rules = said("rules", "ls")
        assert ("newer" in rules) == (action != "stop")
        json.loads(said("rules", "ls", "--json"))
        said("rules", "history", "default")
        said("rules", "test", file("more.yaml", "diversity: 0.4"), "--user", "u1")
        json.loads(said("explain", "u1", "--json"))
        assert "cannot be judged: " in said("evaluate", "--feedback", "--beside", "default", code=3)
        said("export", str(tmp_path / f"{n}.parquet"))
        assert ("challenger" in said("checkpoint", "ls")) == (action != "stop")
        said("checkpoint", "verify")
        found = json.loads(said("checkpoint", "verify", "--replay", "--json"))
        assert (found["lost"], found["doubled"], found["interactions"]) == (0, 0, 80 * (n + 1))
        said("doctor")
        archive = str(tmp_path / f"{n}.checkpoint")
        said("checkpoint", "export", archive)
        said("checkpoint", "import", archive, "--replace")
        said("run", "--exit-at-end")
        said("checkpoint", "rebuild")
        said("run", "--exit-at-end")
    of_arms = json.dumps({"experiment": {"name": "newer", "salt": "s", "arms": [{"name": "a", "share": 1.0}]}})
    refused = said("replay", stream, "--rules", file("rules.json", of_arms), code=3)
    assert len(refused.splitlines()) == 1, refused
    assert said("replay", stream, "--rules", file("newer.yaml", EXPERIMENT), code=3).count("\n") == 1
