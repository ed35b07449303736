"""A flipped bit in a table of the embedded log, as an operator meets it: by commands, one after the other."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from consumers.embedded.log import EmbeddedLog
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests.consumers.embedded.test_damage import flipped
from tests.faults.scene import ROOT
from tests.scenarios.test_damage import records_of, run

EVENTS = 2_000
NAME = b64encode(sha256(b"in the middle").digest()).decode()  # it does not get smaller in a table, so it can be found
ACCEPT = {"FRESHET_ON_LOG_DAMAGED": "accept"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with records and a checkpoint, all of it in one table."""
    folder = tmp_path_factory.mktemp("whole") / "log"
    settings = Settings(log=folder, state=folder / "state" / "freshet")
    with closing(EmbeddedLog(folder)) as log:
        log.create(topic_specs(settings, partitions=1))
        records = records_of(settings, EVENTS)
        in_the_middle = json.loads(records[EVENTS // 2].value or b"") | {"event_id": NAME}
        records[EVENTS // 2] = replace(records[EVENTS // 2], value=json.dumps(in_the_middle).encode())
        log.append(records)
        run(log, settings)
        log._tables.db.flush()
        log._tables.db.compact_range(None, None)
    return folder


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """A file of ten interactions."""
    file = tmp_path / "more.jsonl"
    rows = [{"user_id": "u1", "item_id": f"i{n}", "event_type": "view", "timestamp": 10**12 + n} for n in range(10)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def damaged(whole: Path, to: Path, what: str) -> Path:
    """A copy whose table has a bit another in an interaction, or in a page: these come last."""
    shutil.copytree(whole, to)
    (table,) = (to / "rocksdb").glob("*.sst")
    data = table.read_bytes()
    place = data.index(NAME.encode()) if what == "interaction" else len(data) * 9 // 10
    table.write_bytes(flipped(place, 1)(data))
    return to


def command(log: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", *words, "--log", str(log)],
        cwd=log.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert "free space" not in said, said
    return done.returncode, said


def compact(log: Path) -> None:
    """As RocksDB does by itself, sooner or later."""
    with closing(EmbeddedLog(log)) as opened:
        opened._tables.db.flush()
        opened._tables.db.compact_range(None, None)
        opened._tables.put(b"g/probe", b"")


def test_damaged_pages_are_rebuilt_and_the_log_is_mended(whole: Path, more: Path, tmp_path: Path) -> None:
    log = damaged(whole, tmp_path / "log", "page")
    code, said = command(log, "doctor")
    assert code == 1
    assert re.search(
        r"MEND files of the log: damaged .*sst: .*nothing that was sent to it is lost.*start it again", said
    )
    for n in (1, 2):
        code, said = command(log, "run", "--exit-at-end")
        assert code == 0, said
        assert ("set aside as rocksdb.damaged-" in said) == (n == 1)
        compact(log)
    for words in (["produce", str(more)], ["checkpoint", "rm"], ["run", "--exit-at-end"], ["doctor"]):
        code, said = command(log, *words)
        assert code == 0, said
    with closing(EmbeddedLog(log)) as opened:
        assert opened.ends("interactions") == {0: EVENTS + 10}
        assert opened.starts("interactions") == {0: 0}


def test_a_compaction_meets_them_first(whole: Path, more: Path, tmp_path: Path) -> None:
    """The checkpoint was removed before: nobody reads its pages, and a write fails that has nothing to do with them."""
    log = damaged(whole, tmp_path / "log", "page")
    assert command(log, "checkpoint", "rm")[0] == 0
    with pytest.raises(Exception, match="start again: it is mended then"):
        compact(log)
    code, said = command(log, "produce", str(more))
    assert code == 0
    assert "nothing that was sent to it is lost" in said
    compact(log)
    assert command(log, "run", "--exit-at-end")[0] == 0


def test_damaged_records_are_named_and_accepted_by_the_setting(whole: Path, more: Path, tmp_path: Path) -> None:
    log = damaged(whole, tmp_path / "log", "interaction")
    code, said = command(log, "checkpoint", "verify", "--replay")  # it reads all of them
    assert (code, said.count("start again: it is mended then, or what is lost is said")) == (1, 1), said
    refused = re.compile(r"damaged .*lost: .*interactions\[0\] from offset \d+ on, \d+ record.*ON_LOG_DAMAGED=accept")
    for words in (["run", "--exit-at-end"], ["run", "--exit-at-end"], ["checkpoint", "rm"], ["doctor"]):
        code, said = command(log, *words)
        assert code == 1, said
        assert refused.search(said), said
    code, said = command(log, "run", "--exit-at-end", **ACCEPT)
    assert code == 0, said
    assert re.search(r"mended; lost: .*set aside as rocksdb.damaged-", said)
    compact(log)
    for words in (["produce", str(more)], ["run", "--exit-at-end"], ["checkpoint", "rm"], ["doctor"]):
        code, said = command(log, *words)
        assert code == 0, said
