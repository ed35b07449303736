"""A broker that a test may freeze or end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kafka_broker
from tests.conftest import missing


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[kafka_broker.Broker]:
    """A broker of this test's own."""
    if lacks := kafka_broker.missing():
        missing(lacks)
    (tmp_path / "kafka").mkdir()
    started = kafka_broker.Broker(tmp_path / "kafka")
    yield started
    started.stop(kill=True)
