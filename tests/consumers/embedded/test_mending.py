"""A damaged file of any kind, met whenever it is read: the log is mended by itself, or says what is lost and is mended."""

import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers import crash_points
from consumers.embedded.damage import examine_files, mark_damaged, marked
from consumers.embedded.folder_log import FolderLog
from consumers.embedded.log import EmbeddedLog
from consumers.embedded.remote_log import RemoteLog
from consumers.errors import CheckpointDamaged, DamageMet, LogBusy, LogDamaged, LogUnavailable
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, TopicPartition
from tests.consumers.embedded.test_damage import flipped, read
from tests.faults.scene import ROOT
from tests.waiting import scaled

ROWS, PAGES, EPOCHS = 600, 40, 120
_WRITER = f"""
import os, random, sys
from hashlib import sha256
from pathlib import Path
from consumers.embedded.log import EmbeddedLog
from consumers.records import NewRecord, TopicPartition, TopicSpec
log, rng = EmbeddedLog(Path(sys.argv[1])), random.Random(1)
log.create([TopicSpec("t", 2), TopicSpec("c", 1, "compact")])
committer = log.committer("app")
committer.secret()
for n in range({EPOCHS}):
    log.append([NewRecord("t", b"k", sha256(b"t%d" % (5 * n + i)).digest() * 2, partition=i % 2) for i in range(5)])
    page = b"p%02d" % (n % {PAGES})
    state = {{page: sha256(page).digest() + rng.randbytes(2_000), b"stream": b"%d" % n}}
    committer.commit([NewRecord("c", b"%d" % (n % 7), b"%d" % n)], {{TopicPartition("t", 0): n}}, state)
    if n in (30, 60, 90):
        log._tables.db.flush()
    if n == 60:
        log._tables.db.compact_range(None, None)
os._exit(9)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with tables of two levels and a write-ahead log, each with records, pages and what else there is."""
    folder = tmp_path_factory.mktemp("written") / "log"
    subprocess.run([sys.executable, "-c", _WRITER, str(folder)], cwd=ROOT, check=False)
    assert len(list((folder / "rocksdb").glob("*.sst"))) == 2
    return folder


def damaged_copy(written: Path, to: Path, pattern: str, change: Callable[[bytes], bytes] | None) -> Path:
    """A copy whose first file of that name is another, or is gone."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(written, to)
    file = min((to / "rocksdb").glob(pattern))
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))
    return to


def within(name: bytes) -> Callable[[bytes], bytes]:
    """A bit is another in the value of that name, which no compression makes smaller."""
    return lambda data: flipped(data.index(sha256(name).digest()) + 10, 1)(data)


def pages(log: EmbeddedLog) -> dict[bytes, bytes] | None:
    """Those of the checkpoint; None where it is damaged, and is to be made anew."""
    try:
        return dict(log.stored_state("app").pages())
    except CheckpointDamaged:
        return None


def use(log: EmbeddedLog) -> int:
    """Does all that a log is used for, a compaction of everything too. Gives how many records of `t` it has."""
    found = sum(len(records) for tp, records in read(log).items() if tp.topic == "t")
    pages(log)
    tables = log._tables
    tables.db.flush()
    tables.db.compact_range(None, None)
    log.append([NewRecord("t", b"k", b"more", partition=0)])
    with closing(log.committer("app")) as committer:
        committer.commit([NewRecord("c", b"1", b"more")], {TopicPartition("t", 0): 1}, {b"stream": b"more"})
    return found


def use_whatever_comes(folder: Path) -> tuple[int, str]:
    """Opens and uses a damaged log as an operator does who accepts what is lost. How much is left, and what was said."""
    said = ""
    for _ in range(4):
        try:
            with closing(EmbeddedLog(folder, compaction_lag_ms=10**9, accept_damage=bool(said))) as log:
                return use(log), said
        except LogDamaged as error:
            assert not said, "accepted, and refused again"
            said = str(error)
        except (DamageMet, CheckpointDamaged):
            continue  # the next opening mends it
    raise AssertionError("it is never mended")


def check(folder: Path, said: str, left: int) -> None:
    """Nothing is lost without a word, and from here on nothing is damaged."""
    assert "\n" not in said
    assert "free space" not in said
    if said:
        assert re.search(r"damaged .*lost: .*FRESHET_ON_LOG_DAMAGED=accept", said)
        lost = sum(int(n) for n in re.findall(r"t\[\d\] from offset \d+ on, (\d+) record", said))
    else:
        lost = 0
    assert left >= ROWS - lost
    for more in (1, 2):
        with closing(EmbeddedLog(folder, compaction_lag_ms=10**9)) as log:
            assert use(log) == left + more
            assert sum(log.ends("t").values()) == ROWS + 1 + more  # no offset was used again
            assert (log.topics()["t"].partitions, log.topics()["c"].cleanup) == (2, "compact")
    assert examine_files(folder) == ("", "")


WHERE: dict[str, tuple[str, Callable[[bytes], bytes] | None]] = {
    "page": ("*.sst", within(b"p17")),
    "record": ("*.sst", within(b"t150")),
    "first block": ("*.sst", flipped(10, 1)),
    "footer": ("*.sst", lambda b: flipped(len(b) - 3, 1)(b)),
    "index": ("*.sst", lambda b: flipped(len(b) - 150, 1)(b)),
    "properties": ("*.sst", lambda b: flipped(b.index(b"rocksdb.") + 3, 1)(b)),
    "table cut": ("*.sst", lambda b: b[: len(b) // 2]),
    "table empty": ("*.sst", lambda b: b""),
    "table gone": ("*.sst", None),
    "log": ("*.log", lambda b: flipped(len(b) // 2, 1)(b)),
    "log gone": ("*.log", None),
    "manifest": ("MANIFEST-*", lambda b: flipped(len(b) // 2, 1)(b)),
    "manifest gone": ("MANIFEST-*", None),
    "manifest empty": ("MANIFEST-*", lambda b: b""),
    "current": ("CURRENT", flipped(3, 1)),
    "current with a zero byte": ("CURRENT", flipped(4, ord("F"))),
    "current empty": ("CURRENT", lambda b: b""),
    "current gone": ("CURRENT", None),
    "options": ("OPTIONS-*", lambda b: flipped(len(b) // 2, 1)(b)),
    "options gone": ("OPTIONS-*", None),
    "identity gone": ("IDENTITY", None),
    "identity empty": ("IDENTITY", lambda b: b""),
    "config empty": ("rocksdict-config.json", lambda b: b""),
}
LOSES_NOTHING = {
    "page", "manifest", "manifest gone", "manifest empty", "current", "current with a zero byte", "current empty", "current gone",
    "options", "options gone", "identity gone", "identity empty", "config empty",
}  # fmt: skip


@pytest.mark.parametrize("where", WHERE)
def test_a_damaged_file_is_mended_or_what_it_held_is_said(written: Path, tmp_path: Path, where: str) -> None:
    folder = damaged_copy(written, tmp_path / "log", *WHERE[where])
    left, said = use_whatever_comes(folder)
    assert (said == "") == (where in LOSES_NOTHING), said
    check(folder, said, left)


@settings(max_examples=15)
@given(data=st.data())
def test_a_bit_anywhere(written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(["*.sst", "*[!t].sst", "*.log", "MANIFEST-*"]))
    size = min((written / "rocksdb").glob(pattern)).stat().st_size
    place = data.draw(st.one_of(st.integers(0, size - 1), st.integers(max(size - 2_500, 0), size - 1)))
    to = tmp_path_factory.getbasetemp() / "anywhere"
    folder = damaged_copy(written, to, pattern, flipped(place, data.draw(st.sampled_from([1, 0x80, 0xFF]))))
    left, said = use_whatever_comes(folder)
    check(folder, said, left)


def test_one_damaged_block_costs_what_it_held_and_no_more(written: Path, tmp_path: Path) -> None:
    folder = damaged_copy(written, tmp_path / "log", *WHERE["record"])
    left, said = use_whatever_comes(folder)
    assert ROWS - 80 < left < ROWS
    assert sum(int(n) for n in re.findall(r", (\d+) record", said)) == ROWS - left
    assert "checkpoint" not in said


def test_damaged_pages_are_mended_by_the_next_opening_and_the_checkpoint_is_to_be_made_anew(
    written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = damaged_copy(written, tmp_path / "log", *WHERE["page"])
    with closing(EmbeddedLog(folder)) as log:
        assert pages(log) is None
        assert "Corruption" in marked(folder)
    with closing(EmbeddedLog(folder)) as log:
        assert sum(len(records) for tp, records in read(log).items() if tp.topic == "t") == ROWS
        assert pages(log) is None  # no checkpoint at all would be one that never was
        log.stored_state("app").clear()
        assert pages(log) == {}
    (line,) = caplog.messages
    aside = re.search(r"nothing that was sent to it is lost; the checkpoint of app .* set aside as (\S+)", line)
    assert aside
    assert (folder / aside[1]).is_dir()


def test_damage_that_only_a_compaction_meets_is_no_full_disk(written: Path, tmp_path: Path) -> None:
    """The pages are deleted, so nobody reads them again; a write fails once RocksDB has met them."""
    folder = damaged_copy(written, tmp_path / "log", *WHERE["page"])
    log = EmbeddedLog(folder)
    log.stored_state("app").clear()
    with closing(log), pytest.raises(DamageMet, match=r"is damaged .*; start again") as met:
        use(log)
    assert "free space" not in str(met.value)
    with closing(EmbeddedLog(folder)) as log:
        assert pages(log) == {}
        assert use(log) == ROWS


@pytest.mark.parametrize("where", ["page", "record", "log", "manifest gone"])
@pytest.mark.parametrize("effect", ["copying", "copied", "aside"])
def test_a_crash_while_it_is_mended(
    written: Path, tmp_path: Path, where: str, effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.embedded.mending._BATCH_BYTES", 10_000)
    folder = damaged_copy(written, tmp_path / "log", *WHERE[where])
    mark_damaged(folder, "it is so")

    def crash(happened: str) -> None:
        if happened == effect:
            raise KeyboardInterrupt

    crash_points.listen(crash)
    try:
        with pytest.raises(KeyboardInterrupt):
            EmbeddedLog(folder, accept_damage=True)
    finally:
        crash_points.listen(None)
    with closing(EmbeddedLog(folder, compaction_lag_ms=10**9, accept_damage=True)) as log:
        left = use(log)
    assert left == ROWS if where not in ("record", "log") else ROWS - 80 < left < ROWS
    assert sorted(path.name.partition("-")[0] for path in folder.glob("rocksdb*")) == ["rocksdb", "rocksdb.damaged"]


def test_what_a_log_cannot_do_without_is_there_twice(written: Path, tmp_path: Path) -> None:
    """The block of topics, and that of ids and secrets."""
    before = EmbeddedLog(shutil.copytree(written, tmp_path / "whole"))
    ids, secret = before.topic_ids(["t", "c"]), before.stored_state("app").secret()
    before.close()
    for change in (flipped(10, 1), lambda b: flipped(b.index(b"t/c"), 1)(b)):
        folder = damaged_copy(written, tmp_path / "log", "*.sst", change)
        mark_damaged(folder, "it is so")
        with closing(EmbeddedLog(folder, accept_damage=True)) as log:
            assert (log.topic_ids(["t", "c"]), log.stored_state("app").secret()) == (ids, secret)


def test_a_log_that_another_has_open_is_not_mended(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "log")
    owner = OwnedLog(folder)
    mark_damaged(folder, "it is so")
    with pytest.raises(LogBusy):
        EmbeddedLog(folder)
    other = (
        f"from pathlib import Path; from consumers.embedded.log import EmbeddedLog; EmbeddedLog(Path({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", other], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "LogBusy" in done.stderr
    owner.close()


def test_whoever_goes_through_the_owner_goes_on_once_that_has_opened_it_again(written: Path, tmp_path: Path) -> None:
    """An append fails by damage in the owner's process, which hears of it when it reads, and opens the log again."""
    folder = damaged_copy(written, tmp_path / "log", *WHERE["page"])
    owner = OwnedLog(folder)
    client = FolderLog(lambda: RemoteLog(folder))
    owner.stored_state("app").clear()
    owner._tables.db.flush()
    owner._tables.db.compact_range(None, None)
    appending = threading.Thread(target=lambda: client.append([NewRecord("t", b"k", b"more", partition=0)]))
    appending.start()
    with owner.reader({TopicPartition("t", 0): owner.ends("t")[0]}) as reader, pytest.raises(DamageMet):
        reader.read(1, scaled(60))
    owner.close()
    with closing(OwnedLog(folder)) as again:
        appending.join(timeout=scaled(60))
        assert not appending.is_alive()
        assert sum(again.ends("t").values()) == ROWS + 1
        client.close()


def test_a_database_that_cannot_be_mended_for_want_of_room_says_so(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = damaged_copy(written, tmp_path / "log", *WHERE["page"])
    mark_damaged(folder, "it is so")

    def full(*_: object) -> None:
        raise OSError("IO error: No space left on device: While appending to file")

    monkeypatch.setattr("consumers.embedded.mending.happened", full)
    monkeypatch.setattr("consumers.embedded.mending._BATCH_BYTES", 10_000)
    with pytest.raises(LogUnavailable, match=r"is damaged and cannot be mended: .*; free space on its disk"):
        EmbeddedLog(folder)
