"""The page of the site about Kafka is run on a broker, and the Python of the pages about producers and subscribers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.docs.pages import KAFKA_PAGE, blocks
from tests.waiting import scaled

pytestmark = pytest.mark.kafka
NAMESPACE = "page"  # other tests are on the broker too


def of_language(document: str, language: str) -> str:
    [text] = [block.text for block in blocks(document) if block.language == language]
    return text


def test_the_page_on_kafka_works_as_it_stands(kafka_bootstrap: str, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        others = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
        environment = others | {"PATH": path, "FRESHET_NAMESPACE": NAMESPACE}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=scaled(120)
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def here(text: str) -> str:
        return re.sub(
            r'(?<=["\s])(interactions|recommendations)(?=[" ])',
            rf"{NAMESPACE}.\1",
            text.replace("localhost:9092", kafka_bootstrap),
        )

    [events] = re.findall(
        r"cat > events.csv.*?^CSV\n", of_language("deploy/site/docs/start/own-stream.md", "sh"), re.S | re.M
    )
    told = run("bash", "-euo", "pipefail", "-c", events + here(of_language(KAFKA_PAGE, "sh")))
    [last] = [line for line in told.splitlines() if '"user_id": "cat"' in line]
    assert '"item_id": "pot"' in last
    run(sys.executable, "-c", here(of_language("deploy/site/docs/guides/produce.md", "python")))
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": "reader"})
    assert consumer.get_watermark_offsets(TopicPartition(f"{NAMESPACE}.interactions", 0), timeout=scaled(30)) == (0, 6)
    consumer.close()
    assert " ['" in run(sys.executable, "-c", here(of_language("deploy/site/docs/guides/subscribe.md", "python")))
