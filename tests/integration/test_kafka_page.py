"""The page of the site about Kafka is run on a broker, and the Python of the pages about producers and subscribers."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from streamer.cli.main import main
from tests.docs.pages import KAFKA_PAGE, OWN_STREAM, PRODUCE, SUBSCRIBE, blocks
from tests.waiting import scaled

pytestmark = pytest.mark.kafka
NAMESPACE = f"page-{uuid4().hex[:8]}"  # other tests, and other runs of this one, are on the broker too


def block(document: str, language: str) -> str:
    [text] = [one.text for one in blocks(document) if one.language == language]
    return text


def test_the_page_on_kafka_works_as_it_stands(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands are given to `main`, since starting each as a process is most of what they would take."""

    def here(text: str) -> str:
        named = re.sub(r'(?<=["\s])(interactions|recommendations)(?=[" ])', rf"{NAMESPACE}.\1", text)
        return named.replace("localhost:9092", kafka_bootstrap)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRESHET_NAMESPACE", NAMESPACE)
    [events] = re.findall(r"cat > events.csv <<'CSV'\n(.*?)^CSV\n", block(OWN_STREAM, "sh"), re.S | re.M)
    Path("events.csv").write_text(events)
    for words in map(shlex.split, here(block(KAFKA_PAGE, "sh")).splitlines()):
        match words:
            case ["export", setting]:
                monkeypatch.setenv(*setting.split("=", 1))
            case ["unset", name]:
                monkeypatch.delenv(name)
            case ["freshet", *command]:
                assert main(command) == 0
            case _:
                pytest.fail(f"who runs {shlex.join(words)}?")
    [last] = [line for line in capsys.readouterr().out.splitlines() if '"user_id": "cat"' in line]
    assert '"item_id": "pot"' in last

    exec(here(block(PRODUCE, "python")), {})
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": "reader"})
    assert consumer.get_watermark_offsets(TopicPartition(f"{NAMESPACE}.interactions", 0), timeout=scaled(30)) == (0, 6)
    consumer.close()
    exec(here(block(SUBSCRIBE, "python")), {})
    assert re.search(r"^\w+ \['", capsys.readouterr().out, re.M)


def test_the_broker_of_make_kafka_says_the_variable_of_the_page() -> None:
    with subprocess.Popen([sys.executable, "-m", "tests.kafka_broker"], stdout=subprocess.PIPE, text=True) as broker:
        try:
            assert broker.stdout is not None
            *_, said = (broker.stdout.readline(), broker.stdout.readline())
            [setting] = re.findall(r"export (FRESHET_BOOTSTRAP=localhost:\d+)$", said)
            assert f"export {setting.rpartition(':')[0]}:9092\n" in block(KAFKA_PAGE, "sh")
            told = Consumer({"bootstrap.servers": setting.partition("=")[2], "group.id": "page"})
            assert len(told.list_topics(timeout=scaled(30)).brokers) == 1
            told.close()
        finally:
            broker.terminate()
    assert broker.returncode == 0
