"""The owner of an embedded log: its end, which others outlive, and who must not keep it from its work."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from consumers.embedded import frames, owner, tables
from consumers.embedded.folder_log import FolderLog
from consumers.embedded.log import EmbeddedLog
from consumers.embedded.owner import Owner
from consumers.embedded.remote_log import RemoteLog
from consumers.errors import DataRefused, LogBusy, LogUnavailable, TopicConflict
from consumers.open_log import OwnedLog, open_log
from consumers.records import NewRecord, TopicPartition, TopicSpec
from consumers.storage.rocks import scan
from tests.faults.scene import ROOT, Scene
from tests.waiting import scaled, until
from tests.worlds import checkerboard

LIMIT_S = scaled(120)
_OWNER = """
import signal, sys, threading
from pathlib import Path
from consumers.embedded.owner_session import Session
from consumers.open_log import OwnedLog
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
log = OwnedLog(Path(sys.argv[1]))
answers = int(sys.argv[2])
if answers >= 0:
    import os
    append = Session.append
    def dying(self, *arguments):
        global answers
        append(self, *arguments)
        answers -= 1
        if answers < 0:
            os._exit(9)
    Session.append = dying
print("open", flush=True)
ended.wait()
log.close()
"""


def start_owner(folder: Path, answers: int = -1) -> subprocess.Popen[str]:
    """A process that opens the log; it dies after so many appends, the last of them without an answer."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder), str(answers)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    return process


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    process.send_signal(how)
    process.communicate(timeout=LIMIT_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log with topics."""
    log = EmbeddedLog(tmp_path / "log")
    log.create([TopicSpec("t", 2)])
    log.close()
    return tmp_path / "log"


@pytest.fixture
def owned(folder: Path) -> Iterator[OwnedLog]:
    log = OwnedLog(folder)
    yield log
    log.close()


def opened(folder: Path) -> FolderLog:
    """The log through the owner that there is."""
    log = open_log(None, folder, folder / "state")
    assert isinstance(log, FolderLog)
    return log


def address(folder: Path) -> tuple[str, int]:
    return "127.0.0.1", json.loads((folder / "owner.json").read_text())["port"]


# the end of an owner


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_readers_and_producers_go_on_with_the_next_owner_or_by_themselves(folder: Path, how: signal.Signals) -> None:
    first = start_owner(folder)
    log = opened(folder)
    reader = log.reader({TopicPartition("t", p): 0 for p in (0, 1)})
    seen: list[tuple[int, int]] = []

    def read_until(n: int) -> None:
        until(lambda: seen.extend((r.partition, r.offset) for r in reader.read(7, 0.2)) or len(seen) >= n)

    log.append([NewRecord("t", b"", b"%d" % n, partition=n % 2) for n in range(10)])
    read_until(4)
    end(first, how)
    second = start_owner(folder)
    log.append([NewRecord("t", b"", b"%d" % n, partition=n % 2) for n in range(10, 20)])
    read_until(20)
    end(second, how)
    log.append([NewRecord("t", b"", b"%d" % n, partition=n % 2) for n in range(20, 30)])
    read_until(30)
    assert Counter(seen) == Counter((p, offset) for p in (0, 1) for offset in range(15))
    assert sorted(log.topics()) == ["t"]
    others = opened(folder)  # this process has it open now, and serves the others
    assert others.ends("t") == {0: 15, 1: 15}
    others.close()
    reader.close()
    log.close()
    with pytest.raises(LogUnavailable):
        log.append([NewRecord("t", b"", b"")])


def test_two_that_lose_their_owner_at_once_find_each_other(folder: Path) -> None:
    first = start_owner(folder)
    logs = [opened(folder) for _ in range(4)]
    end(first, signal.SIGKILL)
    threads = [
        threading.Thread(
            target=lambda log=log: [log.append([NewRecord("t", b"k", b"v", partition=0)]) for _ in range(25)]
        )
        for log in logs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert logs[0].ends("t") == {0: 100, 1: 0}
    for log in logs:
        log.close()


@pytest.mark.parametrize("answers", [0, 1, 5])
def test_an_append_whose_answer_was_lost_is_there_once(folder: Path, answers: int) -> None:
    process = start_owner(folder, answers)
    log = opened(folder)
    for n in range(8):
        log.append([NewRecord("t", b"", b"%d-%d" % (n, i), partition=0) for i in range(3)])
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 9
    reader = log.reader({TopicPartition("t", 0): 0})
    found = [r.value for r in reader.read(1_000, 0)]
    assert found == [b"%d-%d" % (n, i) for n in range(8) for i in range(3)]
    log.close()
    with closing(EmbeddedLog(folder)) as again:  # and nothing is kept of who appended
        assert not list(scan(again._tables.db, b"c/"))


def test_produce_tail_and_topics_outlive_two_owners(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "own")
    scene.create()
    assert scene.settings.log
    rows = [f"u{n % 50},i{n % 30},view,{n}\n" for n in range(4_000)]
    (tmp_path / "rows.csv").write_text("user_id,item_id,event_type,timestamp\n" + "".join(rows))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRESHET_INTERACTIONS_TOPIC": "own.interactions"}

    def freshet(*words: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "streamer", *words, "--log", str(scene.settings.log)]
        return subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    first = start_owner(scene.settings.log)
    tail = freshet("tail", "own.interactions", "--limit", "4000")
    produce = freshet("produce", "rows.csv", "--rate", "800")
    assert tail.stdout
    lines = [tail.stdout.readline() for _ in range(300)]
    end(first, signal.SIGKILL)
    lines += [tail.stdout.readline() for _ in range(900)]
    topics = freshet("topics", "list", "--json")
    assert "own.interactions" in topics.communicate(timeout=LIMIT_S)[0]
    lines += tail.stdout.readlines()  # `communicate` would pass over what is read ahead already
    tail.communicate(timeout=LIMIT_S)
    said, _ = produce.communicate(timeout=LIMIT_S)
    assert (produce.returncode, tail.returncode) == (0, 0), said
    rows_seen = [json.loads(line) for line in lines if line]
    assert [row["offset"] for row in rows_seen] == list(range(4_000))
    assert [row["value"]["timestamp"] for row in rows_seen] == list(range(4_000))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_outlives_the_owner(tmp_path: Path, how: signal.Signals) -> None:
    scene = Scene(tmp_path, "work")
    scene.create()
    assert scene.settings.log
    records = scene.interactions(checkerboard(events=900))
    process = start_owner(scene.settings.log)
    with closing(opened(scene.settings.log)) as log:
        line = [sys.executable, "-m", "streamer", "run", "--log", str(scene.settings.log)]
        (tmp_path / "freshet.toml").write_text(scene.file.read_text())
        worker = subprocess.Popen(
            line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
        )
        try:
            log.append(records[:300])
            until(lambda: log.ends("work.epochs")[0] > 3)
            end(process, how)
            log.append(records[300:])
            until(lambda: taken(log) == 900)
        finally:
            worker.terminate()
            worker.communicate(timeout=LIMIT_S)
    assert worker.returncode == 0
    digest, found = scene.finish(), scene.audit()
    assert (found.interactions, found.lost, found.doubled) == (900, 0, 0)
    assert list(found.digests.values()) == [digest]


def taken(log: FolderLog) -> int:
    """Interactions in the committed epochs."""
    reader = log.reader({TopicPartition("work.epochs", 0): 0})
    with closing(reader):
        return sum(json.loads(record.value or b"")["events"] for record in reader.read(10_000, 0))


# who must not keep it from its work


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(LIMIT_S)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "first",
    [
        (65).to_bytes(4, "big"),  # a larger frame than a token's
        (256 << 20).to_bytes(4, "big") + b"x" * 1_000,
        (2**32 - 1).to_bytes(4, "big"),
        b"GET / HTTP/1.1\r\n\r\n",
        (34).to_bytes(4, "big") + b"\xd9\x20" + b"0" * 32,  # another token
        (2).to_bytes(4, "big") + b"\xd9\xff",  # no msgpack
        (3).to_bytes(4, "big") + b"\xa2\xc3\xa9",  # a token that is no ASCII
    ],
)
def test_who_has_no_token_is_sent_away(
    owned: OwnedLog, folder: Path, first: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(address(folder)) as stranger:
        stranger.sendall(first)
        assert is_closed(stranger)
    with closing(RemoteLog(folder)) as log:
        assert log.ends("t") == {0: 0, 1: 0}
    assert "Traceback" not in capfd.readouterr().err


def test_who_says_nothing_or_too_slowly_is_sent_away(
    owned: OwnedLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "TOKEN_S", 0.3)
    with socket.create_connection(address(folder)) as silent, socket.create_connection(address(folder)) as slow:
        assert is_closed(silent)
        until(lambda: _refuses(slow))


def _refuses(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"\0")
    except OSError:
        return True
    return False


def test_a_crowd_of_strangers_keeps_nobody_out(owned: OwnedLog, folder: Path) -> None:
    before = threading.active_count()
    crowd = [socket.create_connection(address(folder)) for _ in range(300)]
    with closing(RemoteLog(folder)) as log:
        log.append([NewRecord("t", b"k", b"v", partition=0)])
        assert log.ends("t")[0] == 1
    until(lambda: threading.active_count() - before <= owner.STRANGERS + 3)
    for connection in crowd:
        connection.close()


def test_more_clients_than_it_serves_are_told_so(
    owned: OwnedLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "CLIENTS", 3)
    logs = [RemoteLog(folder) for _ in range(3)]
    assert [log.ends("t") for log in logs] == [{0: 0, 1: 0}] * 3
    with closing(RemoteLog(folder)) as one_more, pytest.raises(LogUnavailable, match="serves 3 connections already"):
        one_more.ends("t")
    logs.pop().close()
    until(lambda: _answers(folder))
    for log in logs:
        log.close()


def _answers(folder: Path) -> bool:
    with closing(RemoteLog(folder)) as log:
        try:
            return log.ends("t") == {0: 0, 1: 0}
        except LogUnavailable:
            return False


def test_an_idle_client_is_kept_as_long_as_it_lives(
    owned: OwnedLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "IDLE_S", 1.0)
    log = RemoteLog(folder)  # its process says a word every few seconds
    reader, committer = log.reader({TopicPartition("t", 0): 0}), log.committer("a")
    log._connection._used = reader._connection._used = committer._connection._used = -1e9
    for connection in (log._connection, reader._connection, committer._connection):
        connection.keep()
    committer.commit([NewRecord("t", b"k", b"v", partition=0)], {})
    assert [r.value for r in reader.read(10, 5)] == [b"v"]
    token = json.loads((folder / "owner.json").read_text())["token"]
    with socket.create_connection(address(folder)) as dead:  # one that says none is gone
        frames.send(dead, token)
        assert is_closed(dead)
    for opened in (reader, committer, log):
        opened.close()


def test_what_is_no_call_ends_a_connection_without_a_traceback(
    owned: OwnedLog, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = json.loads((folder / "owner.json").read_text())["token"]
    for call in (
        None,
        7,
        [],
        ["nothing"],
        ["ends"],
        ["ends", 7],
        ["ends", "t", "t"],
        {"a": 1},
        ["append", [[1]], None],
    ):
        with socket.create_connection(address(folder)) as client:
            frames.send(client, token)
            frames.send(client, call)
            assert is_closed(client)
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_larger_than_a_frame_goes_in_pieces(
    owned: OwnedLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1 << 20)
    monkeypatch.setattr(frames, "PIECE_BYTES", 100_000)
    monkeypatch.setattr(tables, "READ_BYTES", 100_000)
    log = RemoteLog(folder)
    before = owned.ends("t")
    log.append([NewRecord("t", b"", bytes([n % 256]) * 50_000, partition=0) for n in range(100)])  # 5 MB
    reader, values = log.reader({TopicPartition("t", 0): 0}), []
    while records := reader.read(10_000, 0):
        values += [record.value for record in records]
    assert values == [bytes([n % 256]) * 50_000 for n in range(100)]
    pages = {b"page/%03d" % n: bytes([n % 256]) * 50_000 for n in range(100)}
    committer = log.committer("a")
    committer.commit([NewRecord("t", b"", b"y" * 50_000, partition=1)] * 60, {TopicPartition("t", 0): 100}, pages)
    assert dict(committer.load_state()) == pages == dict(log.stored_state("a").pages())
    assert (before, log.ends("t")) == ({0: 0, 1: 0}, {0: 100, 1: 60})
    log.stored_state("b").write(pages)
    assert dict(log.stored_state("b").pages()) == pages
    with pytest.raises(DataRefused, match="a record or page of 2,000,"):
        log.append([NewRecord("t", b"", bytes(2_000_000), partition=0)])
    assert log.ends("t")[0] == 100
    for opened in (reader, committer, log):
        opened.close()


# two applications


def test_a_second_application_on_the_same_topics_is_refused(owned: OwnedLog, folder: Path) -> None:
    with closing(RemoteLog(folder)) as log:
        log.create([TopicSpec("mine", 1), TopicSpec("other", 1)])
        log.claim("a", ["t", "mine"])
        log.claim("a", ["t", "mine"])
        with pytest.raises(TopicConflict, match="the application a writes to t of this log"):
            log.claim("b", ["t", "other"])
        log.claim("b", ["other"])


# who may read it


def test_the_log_and_its_owners_address_are_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.storage.private_files._held", [])  # whatever other tests have left open
    before = os.umask(0o022)
    try:
        with closing(OwnedLog(tmp_path / "deep" / "log")) as log:
            log.create([TopicSpec("t", 1)])
            log.append([NewRecord("t", b"k", b"v")])
            log._tables.db.flush()
            assert readable_by_others(tmp_path / "deep") == []
        assert os.umask(0o022) == 0o022  # and other files are made as the user wants them
    finally:
        os.umask(before)


def readable_by_others(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_one_that_does_not_answer_is_said(folder: Path) -> None:
    log = EmbeddedLog(folder)  # open, and it serves nobody
    with pytest.raises(LogBusy, match="does not answer"):
        open_log(None, folder, folder / "state")
    with closing(log):
        Owner(log, folder).close()
