"""The whole way on a real Kafka 4.1: topics, produce, run, tail, as a user types them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from streamer.evaluation.replay import ReplayOptions, replay
from streamer.settings import Settings
from tests.topic_names import topics_under
from tests.waiting import scaled
from tests.worlds import checkerboard, table_of

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]


@pytest.fixture
def freshet(kafka_bootstrap: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Runs a command on the broker, with topics of this test's own."""
    prefix = f"{abs(hash(request.node.name))}."
    own = {f"FRESHET_{name.upper()}": topic for name, topic in topics_under(prefix).items()}
    own["FRESHET_APPLICATION"] = prefix + "app"
    own["FRESHET_ALIGNMENT_MS"] = "10000"  # a busy machine must not decide what is late

    def call(command: str, *arguments: str) -> str:
        words = [argument.replace("@", prefix) for argument in arguments]
        line = [sys.executable, "-m", "streamer", command, *words, "--bootstrap", kafka_bootstrap]
        environment = os.environ | own | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=scaled(250))
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.mark.parametrize("partitions", [1, 4])
def test_lists_through_kafka_equal_those_of_replay(
    freshet: Callable[..., str], settings: Settings, tmp_path: Path, partitions: int
) -> None:
    events = checkerboard(events=3_000, items=100)
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]).assign(event_type="view")
    frame.to_parquet(tmp_path / "events.parquet")
    replay(table_of(events), settings, ReplayOptions(lists_out=tmp_path / "a", last_lists_out=tmp_path / "last"))
    freshet("topics", "create", "--partitions", str(partitions))
    freshet("produce", "events.parquet")
    freshet("run", "--state", "state", "--exit-at-end", "--lists-out", "b")
    rows = [json.loads(line) for line in freshet("tail", "@recommendations", "--exit-at-end").splitlines()]
    newest = {row["key"]: [item["item_id"] for item in row["value"]["items"]] for row in rows}
    last = pd.read_parquet(tmp_path / "last")
    assert newest == {user: list(items) for user, items in zip(last.user_id, last["items"], strict=True)}
    live, replayed = (pd.read_parquet(tmp_path / name).sort_values("event") for name in ("b", "a"))
    assert live["items"].map(list).tolist() == replayed["items"].map(list).tolist()


def test_a_restart_goes_on_where_it_stopped(freshet: Callable[..., str], tmp_path: Path) -> None:
    frame = pd.DataFrame(checkerboard(events=400), columns=["user_id", "item_id", "timestamp"]).assign(
        event_type="view"
    )
    freshet("topics", "create")
    for first in (0, 200):
        frame[first : first + 200].assign(event_id=range(first, first + 200)).to_parquet(tmp_path / "part.parquet")
        freshet("produce", "part.parquet")
        freshet("run", "--state", "state", "--exit-at-end")
    epochs = [json.loads(line)["value"] for line in freshet("tail", "@epochs", "--exit-at-end").splitlines()]
    assert sum(epoch["events"] for epoch in epochs) == 400
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, len(epochs) + 1))
    report = [json.loads(line) for line in freshet("doctor", "--state", "state", "--json").splitlines()]
    assert {"topic", "epochs", "checkpoint", "lag", "transactions"} <= {
        finding["check"].split()[0] for finding in report
    }
    audit = json.loads(freshet("checkpoint", "verify", "--replay", "--state", "state", "--json"))
    assert (audit["fine"], audit["interactions"], audit["lost"], audit["doubled"]) == (True, 400, 0, 0)
    last = epochs[-1]["ends"]
    assert sum(next(iter(last.values())).values()) <= 400
