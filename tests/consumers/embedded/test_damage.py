"""An embedded log whose files were changed or cut off: everything is there, or it is said what is not; never silence."""

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumers.embedded.log import EmbeddedLog
from consumers.errors import LogDamaged, LogUnavailable
from consumers.records import NewRecord, Record, TopicPartition
from consumers.storage.wal import WalEnd, crc32c, find_end
from tests.faults.scene import ROOT

APPENDS, AT_ONCE = 300, 10
_WRITER = f"""
import os, sys
from pathlib import Path
from consumers.embedded.log import EmbeddedLog
from consumers.records import NewRecord, TopicSpec
log = EmbeddedLog(Path(sys.argv[1]))
log.create([TopicSpec("t", 2), TopicSpec("c", 1, "compact")])
for n in range({APPENDS}):
    log.append([NewRecord("t", b"%d" % i, b"x" * 100, partition=i % 2) for i in range({AT_ONCE})])
    log.append([NewRecord("c", b"%d" % (n % 7), b"%d" % n)])
if sys.argv[2] == "close":
    log.close()
    log = EmbeddedLog(Path(sys.argv[1]))
    log.append([NewRecord("t", b"", b"last", partition=0)])
os._exit(9)
"""
WRITTEN = {TopicPartition("t", 0): 1500, TopicPartition("t", 1): 1500, TopicPartition("c", 0): 300}


@pytest.fixture(scope="module", params=["killed", "closed"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose process was killed: all of it in the write-ahead log, or most of it in a table."""
    folder = tmp_path_factory.mktemp("written") / "log"
    how = "close" if request.param == "closed" else ""
    subprocess.run([sys.executable, "-c", _WRITER, str(folder), how], cwd=ROOT, check=False)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "log"
    subprocess.run([sys.executable, "-c", _WRITER, str(folder), ""], cwd=ROOT, check=False)
    return folder


def write_ahead_log(folder: Path) -> Path:
    (file,) = (folder / "rocksdb").glob("*.log")
    return file


def changed(folder: Path, file: Path, change: Callable[[bytes], bytes], to: Path) -> Path:
    """A copy of a log in which one file is another."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    place = to / file.relative_to(folder)
    place.write_bytes(change(place.read_bytes()))
    return to


def read(log: EmbeddedLog) -> dict[TopicPartition, list[Record]]:
    found: dict[TopicPartition, list[Record]] = {}
    for topic in log.topics():
        reader = log.reader({TopicPartition(topic, p): 0 for p in log.ends(topic)})
        while records := reader.read(10_000, 0):
            for record in records:
                found.setdefault(record.topic_partition, []).append(record)
    return found


def flipped(place: int, bits: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]

    return change


@settings(max_examples=80)
@given(data=st.data())
def test_a_changed_byte_anywhere_loses_nothing_in_silence(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every file of the database: the write-ahead log, tables, their list; near the end as well as in the middle."""
    files = [file for file in sorted((written / "rocksdb").iterdir()) if file.stat().st_size]
    file = data.draw(st.sampled_from(files))
    size = file.stat().st_size
    near_end = st.integers(max(size - 600, 0), size - 1)
    place = data.draw(st.one_of(st.integers(0, size - 1), near_end))
    bits = data.draw(st.one_of(st.integers(1, 255), st.sampled_from([1, 0x80, 0xFF])))
    copy = changed(written, file, flipped(place, bits), tmp_path_factory.getbasetemp() / "changed")
    try:
        log = EmbeddedLog(copy, compaction_lag_ms=10**9)
    except LogDamaged as error:
        said = str(error)
    else:
        with closing(log):
            said = what_lacks(log)
    assert said == "" or ("damaged" in said and "\n" not in said)


def what_lacks(log: EmbeddedLog) -> str:
    """What is said of a log that does not have all of it; empty where it has."""
    try:
        found = read(log)
    except LogUnavailable as error:
        return str(error)
    assert len(found[TopicPartition("t", 0)]) >= len(found[TopicPartition("t", 1)]) == 1500
    assert found[TopicPartition("c", 0)][-1].value == b"299"
    return ""


@settings(max_examples=30)
@example(32_768, 5_000)
@example(32_768 + 3, 0)
@example(7, 0)
@example(6, 0)
@given(st.integers(0, 10**9), st.sampled_from([0, 0, 3, 5_000, 70_000]))
def test_an_end_torn_off_opens_says_what_it_took_and_no_offset_is_used_again(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, cut: int, zeros: int
) -> None:
    """Cut off anywhere, filled up with zeros or not, as a power failure leaves it."""
    file = write_ahead_log(killed)
    cut %= file.stat().st_size + 1
    if zeros:
        cut = cut // 512 * 512  # a sector was written or was not
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("consumers.embedded").addHandler(handler)
    copy = changed(killed, file, lambda b: b[:cut] + bytes(zeros), tmp_path_factory.getbasetemp() / "torn")
    log = EmbeddedLog(copy, compaction_lag_ms=10**9)
    logging.getLogger("consumers.embedded").removeHandler(handler)
    found = read(log)
    for tp, end in WRITTEN.items():
        if tp.topic not in log.topics():
            continue
        have = found.get(tp, [])
        assert [record.offset for record in have] == list(range(len(have)))  # the first ones, all of them
        if len(have) < end:
            (line,) = said
            assert f"{tp.topic}[{tp.partition}] from offset {len(have)} on, {end - len(have)} records" in line
            assert log.ends(tp.topic)[tp.partition] == end
            log.append([NewRecord(tp.topic, b"k", b"next", partition=tp.partition)])
            assert read(log)[tp][-1].offset == end
    log.close()
    again = EmbeddedLog(copy, compaction_lag_ms=10**9)
    assert len(said) <= 1  # said once
    again.close()


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_damage_names_what_is_lost_and_is_accepted_by_a_setting(
    killed: Path, tmp_path: Path, part: float, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_ahead_log(killed)
    place = int(file.stat().st_size * part)
    copy = changed(killed, file, flipped(place, 0xFF), tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in (copy / "rocksdb").glob("*.log")}
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(LogDamaged, match=r"damaged .* lost: .*t\[1\] from offset \d+ on, \d+ records.*accept"):
            EmbeddedLog(copy)
        assert {path.name: path.read_bytes() for path in (copy / "rocksdb").glob("*.log")} == before
    log = EmbeddedLog(copy, accept_damage=True)
    kept = read(log)
    assert re.search(
        r"mended; lost: .*t\[1\] from offset \d+ on, \d+ records.*set aside as rocksdb.damaged-", caplog.text
    )
    assert 1000 < len(kept[TopicPartition("t", 1)]) < 1500
    log.append([NewRecord("t", b"", b"next", partition=1)])
    log.close()
    again = EmbeddedLog(copy)
    assert read(again)[TopicPartition("t", 1)][-1].offset == 1500
    again.close()


def test_a_list_of_files_that_is_gone_loses_nothing(killed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(killed, copy)
    (copy / "rocksdb" / "CURRENT").unlink()
    log = EmbeddedLog(copy)
    assert {tp: len(records) for tp, records in read(log).items() if tp.topic == "t"} == dict.fromkeys(
        (TopicPartition("t", 0), TopicPartition("t", 1)), 1500
    )
    log.close()


def test_a_database_that_is_gone_is_not_begun_anew_in_silence(killed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(killed, copy)
    shutil.rmtree(copy / "rocksdb")
    for _ in range(2):
        with pytest.raises(LogDamaged, match=r"its database is gone.*t\[0\] from offset 0 on, 1500 records"):
            EmbeddedLog(copy)
    log = EmbeddedLog(copy, accept_damage=True)
    assert log.ends("t") == {0: 1500, 1: 1500}
    log.close()


def test_a_log_of_before_that_has_no_file_of_ends_gets_one(killed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(killed, copy)
    (copy / "ends").unlink()
    EmbeddedLog(copy).close()
    (copy / "ends").write_bytes(b"\0" * 3)  # not one of ours
    log = EmbeddedLog(copy)
    assert log.ends("t") == {0: 1500, 1: 1500}
    log.close()


@settings(max_examples=30)
@given(data=st.data())
def test_a_changed_file_of_ends_does_no_harm(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = killed / "ends"
    place, bits = data.draw(st.integers(0, file.stat().st_size - 1)), data.draw(st.integers(1, 255))
    log = EmbeddedLog(changed(killed, file, flipped(place, bits), tmp_path_factory.getbasetemp() / "ends"))
    assert log.ends("t") == {0: 1500, 1: 1500}
    log.close()


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_a_log_of_nothing_ends_whole(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert find_end(tmp_path / "empty") is WalEnd.WHOLE
    EmbeddedLog(tmp_path / "log").close()
    EmbeddedLog(tmp_path / "log").close()
