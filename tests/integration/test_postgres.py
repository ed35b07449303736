"""Changes of a real PostgreSQL, as a real Debezium writes them, become interactions, retractions and items."""

import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests import postgres_server
from tests.conftest import missing

GUIDE = Path(__file__).parents[2] / "deploy/site/docs/guides/postgres.md"


def blocks(language: str) -> list[str]:
    """The blocks of a language in the guide."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def database() -> Iterator[postgres_server.Database]:
    if lacks := postgres_server.missing():
        missing(lacks)
    with closing(Stopped(postgres_server.Database())) as one:
        yield one.service


class Stopped:
    """What is stopped when it is closed."""

    def __init__(self, service: postgres_server.Database) -> None:
        self.service = service

    def close(self) -> None:
        self.service.stop()


def test_the_guide_s_connector_brings_rows_and_takes_them_back(
    database: postgres_server.Database, log: OwnedLog, settings: Settings, tmp_path: Path
) -> None:
    """Rows from before it was started, rows that come, change and go, a column of a type of its own."""
    [tables], [config], [toml] = blocks("sql"), blocks("json"), blocks("toml")
    database.execute(tables)
    database.execute("INSERT INTO products VALUES (1, 'Tea', 2.5), (2, 'Cup', 7), (3, 'Pot', 20), (4, 'Tray', 9)")
    buy = (
        "INSERT INTO purchases SELECT n, %d, n %% 4 + 1, timestamptz '2024-05-01 12:00:00+02' + n * interval '1 minute'"
    )
    database.execute((buy + " FROM generate_series(1, 3) n") % 7)
    connector = postgres_server.Connector(
        json.loads(config) | {"database.port": str(database.port)}, folder_in(tmp_path, "connector")
    )
    try:
        connector.records(7)
        database.execute((buy + " FROM generate_series(11, 14) n") % 8)
        database.execute("UPDATE purchases SET product_id = 3 WHERE id = 11; DELETE FROM purchases WHERE id IN (2, 14)")
        database.execute("UPDATE products SET title = 'Green tea' WHERE id = 1; DELETE FROM products WHERE id = 4")
        records = connector.records(16)
    finally:
        connector.stop()
    assert [(one.key, one.value) for one in records if one.topic == "items"][-1] == (b"4", None)
    log.append(records)
    mapped = settings.model_copy(update={"field_map": tomllib.loads(toml)["field_map"]})
    with closing(Worker.open(log, mapped)) as worker:
        worker.run(exit_at_end=True)
        model, ledger = worker.state.engine.model, worker.state.ledger
        taken = {
            user: sorted((model.items.ids[item], t) for item, t in ledger.entries(node)[["item", "t"]].tolist())
            for node, user in enumerate(model.users.ids)
        }
    assert not list(read_records(log, whole(log, settings.dead_topic)))
    noon = 1_714_557_600_000
    assert taken == {
        "7": [("2", noon + 60_000), ("4", noon + 180_000)],
        "8": [("1", noon + 12 * 60_000), ("2", noon + 13 * 60_000), ("4", noon + 11 * 60_000)],
    }


def folder_in(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name
