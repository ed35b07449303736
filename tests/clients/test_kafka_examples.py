"""Producers and subscribers of deploy/clients/kafka, on a real broker with a worker between them."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamer.cli.main import main
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from tests.kafka_broker import JARS
from tests.waiting import ends, scaled, until

HERE = Path(__file__).parents[2] / "deploy" / "clients" / "kafka"
JAVA = ["java", "-cp", f"{JARS}/*"]
PROGRAMS = {
    "python": ([sys.executable, str(HERE / "python/produce.py")], [sys.executable, str(HERE / "python/subscribe.py")]),
    "java": ([*JAVA, str(HERE / "java/Produce.java")], [*JAVA, str(HERE / "java/Subscribe.java")]),
}
EVENTS = [("ann", "tea"), ("bob", "tea"), ("bob", "pot"), ("ann", "cup"), ("cat", "tea")]


@pytest.mark.kafka
@pytest.mark.parametrize("language", PROGRAMS)
def test_what_is_produced_comes_back_as_lists(language: str, on_kafka: Settings, tmp_path: Path) -> None:
    produce, subscribe = PROGRAMS[language]
    bootstrap = on_kafka.bootstrap or ""
    with closing(open_log_of(on_kafka)) as log:
        log.create(topic_specs(on_kafka, partitions=2))
    lines = "".join(
        json.dumps({"user_id": user, "item_id": item, "event_type": "view", "timestamp": 1_700_000_000_000 + n}) + "\n"
        for n, (user, item) in enumerate(EVENTS)
    )
    done = subprocess.run(
        [*produce, bootstrap, on_kafka.interactions_topic], input=lines, capture_output=True, text=True,
        timeout=scaled(120),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = ["run", "--bootstrap", bootstrap, "--state", str(on_kafka.state), "--exit-at-end"]
    until(lambda: main(run) == 0)  # a broker that has just started gives no seats yet
    out, errors = tmp_path / "lists", tmp_path / "errors"
    with out.open("w") as said, errors.open("w") as told:
        reader = subprocess.Popen([*subscribe, bootstrap, on_kafka.recommendations_topic], stdout=said, stderr=told)
    with ends(reader):

        def newest() -> dict[str, list[str]]:
            rows = [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]
            return {row["user_id"]: row["items"] for row in rows}

        until(lambda: newest().keys() == {"ann", "bob", "cat"}, said=errors.read_text)
        assert "pot" in newest()["cat"]
    with closing(open_log_of(on_kafka)) as log:
        assert sum(log.ends(on_kafka.interactions_topic).values()) >= len(EVENTS)
