"""What `checkpoint verify` says is so: clean for every stream that went well, a finding for every record that did not."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import Phase, example, given
from hypothesis import strategies as st

import streamer.ops.audit
from consumers.embedded.log import EmbeddedLog
from consumers.errors import PositionGone
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.errors import StateUnreadable
from streamer.ops.audit import Audit, audit, digest
from streamer.ops.checkpoint_archive import read_file, write_file
from streamer.ops.checkpoint_inspection import Passage, verify
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.state import in_force
from streamer.state.stream_state import StreamState
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import interaction, read_all, run
from tests.streamer.state.test_pending_repairs import STEPS, Step, World
from tests.streamer.state.test_pending_repairs import event as event_of
from tests.worlds import checkerboard
from tgn.config import EQUATIONS

KINDS = [
    "view",
    "dislike",
    "repeat",
    "retract",
    "bad",
    "item",
    "user",
    "hide",
    "erase",
    "catalogue user",
    "k",
    "rebuild",
]
CLEAN = (0, 0, 0, 0)


def findings(found: Audit) -> tuple[int, int, int, int]:
    return found.lost, found.doubled, found.differing, found.foreign


def sent(kind: str, n: int, draw: int) -> NewRecord:
    """The record of one step of a random stream."""
    user, item = f"u{draw % 5}", f"i{draw % 9}"
    row: dict[str, Any] = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": 60_000 * n}
    row["event_id"] = f"e{n}"
    match kind:
        case "dislike":  # of items that nobody else has
            row |= {"item_id": f"bad-{n}", "event_type": "dislike"}
        case "repeat" | "retract":
            row |= {"event_id": f"e{draw % max(n, 1)}", "retract": kind == "retract"}
        case "bad":
            return NewRecord("interactions", b"x", b"{oops")
        case "item":
            value = {"item_id": f"new-{n}", "title": f"Item {n}", "categories": ["a", "b"]}
            return NewRecord("items", f"new-{n}".encode(), json.dumps(value).encode())
        case "hide":
            return NewRecord("items", item.encode(), None)
        case "erase":
            return NewRecord("users", user.encode(), None)
        case "catalogue user":  # whom nobody has heard of otherwise
            value = {"user_id": f"quiet-{n}", "attributes": {"age": 30}}
            return NewRecord("users", f"quiet-{n}".encode(), json.dumps(value).encode())
    return NewRecord("interactions", user.encode(), json.dumps(row).encode())


STREAM = st.lists(
    st.tuples(st.sampled_from(["view"] * 6 + KINDS), st.integers(0, 10**6), st.sampled_from(["", "", "", "run", "crash"])),
    max_size=40,
)  # fmt: skip


@hypothesis.settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate), report_multiple_bugs=False)
@example(
    stream=[  # a list of as many items, in a table of more columns
        *(("view", draw, then) for draw, then in ((4929, "crash"), (4271, "run"), (349, "crash"), (4929, "crash"))),
        ("view", 524, ""), ("user", 253, ""), ("erase", 10836, ""), ("hide", 1606, "run"), ("k", 8347, ""),
        ("view", 4929, "crash"), ("bad", 3, ""),
    ],
    partitions=3,
)  # fmt: skip
@given(stream=STREAM, partitions=st.integers(1, 3))
def test_any_stream_that_went_well_is_clean(
    stream: Sequence[tuple[str, int, str]], partitions: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was sent, at whatever commits it was cut, however soon the log is compacted."""
    folder = tmp_path_factory.mktemp("stream")
    settings = Settings(log=folder / "log", state=folder / "state", max_epoch_events=7, checkpoint_interval_ms=10**9)
    log: Any = EmbeddedLog(folder / "log", compaction_lag_ms=0)
    log.create(topic_specs(settings, partitions))
    for n, (kind, draw, then) in enumerate(stream):
        if kind == "k":
            settings = settings.model_copy(update={"k": 2 + draw % 9, "exclude_seen": bool(draw % 2)})
        elif kind == "rebuild":
            run(log, settings)
            with suppress(PositionGone):  # where changes of items or users are gone
                rebuild(log, settings)
        else:
            log.append([sent(kind, n, draw)])
        if then == "run":
            run(log, settings)
        elif then == "crash":
            worker = Worker.open(log, settings)
            while worker.step():
                pass
            worker.close()
    worker = run(log, settings)
    summary, wrong = verify(log, settings)
    assert wrong == []
    found = audit(log, settings)
    assert findings(found) == CLEAN
    if not compacted(log):
        assert found.digests in ({"": digest(worker.state)}, {})
        assert found.untold == 0
    if summary is not None:
        there_and_back(log, settings, folder)
    log.close()
    shutil.rmtree(folder)


def compacted(log: Any) -> bool:
    """Whether changes of items or users are gone."""
    return any(sum(log.ends(topic).values()) != len(read_all(log, topic)) for topic in ("items", "users"))


def there_and_back(log: Any, settings: Settings, folder: Path) -> None:
    """What export writes, import takes, and it is the same state."""
    stored = log.stored_state(settings.application)
    before = StreamState(settings, stored.pages)
    assert before.load()
    write_file(Passage(log, settings).through(stored.pages()), folder / "state.parquet")
    pages = dict(Passage(log, settings).through(read_file(folder / "state.parquet")))
    assert pages == dict(stored.pages())
    again = StreamState(settings, lambda prefix: ((k, v) for k, v in pages.items() if k.startswith(prefix)))
    assert again.load()
    assert digest(again) == digest(before)


@hypothesis.settings(max_examples=40)
@given(steps=st.lists(STEPS, min_size=1, max_size=30), draw=st.integers(0, 10**6))
def test_a_page_less_of_any_stream_is_found(steps: list[Step], draw: int) -> None:
    """The states of the undo tests are whole; without one page, or with a byte less of it, they are not."""
    world = World(k=4)
    for n, step in enumerate(steps):
        user, item = step.n % 4, step.n // 4 % 7
        kind = {"late": "dislike", "bad": "view"}.get(step.kind, "view")
        world.take([event_of(user, item, 1_000 * n, f"e{n}", event_type=kind)], repair=step.cut)
        if step.cut:
            world.checkpoint(restart=step.restart)
    world.checkpoint()
    assert wrong_of(world, world.store) == ""
    keys = sorted(world.store.keys() - {b"stream"})
    gone = keys[draw % len(keys)]
    without = {key: value for key, value in world.store.items() if key != gone}
    assert wrong_of(world, without), gone
    assert wrong_of(world, world.store | {gone: world.store[gone][:-1]}), gone


class _Here:
    """A log that has every position of a state."""

    def starts(self, topic: str) -> dict[int, int]:
        return {0: 0}

    def ends(self, topic: str) -> dict[int, int]:
        return {0: 10**9}


def wrong_of(world: World, pages: dict[bytes, bytes]) -> str:
    log: Any = _Here()
    try:
        for _ in Passage(log, world.settings).through(sorted(pages.items())):
            pass
    except Exception as error:
        return str(error)
    state = StreamState(world.settings, lambda prefix: sorted((k, v) for k, v in pages.items() if k.startswith(prefix)))
    assert state.load()
    state.check_ledger()
    return ""


@pytest.fixture
def published(log: OwnedLog, settings: Settings) -> OwnedLog:
    for part in (checkerboard(events=300), checkerboard(events=600)[300:]):
        log.append([interaction(u, i, t) for u, i, t in part])
        log.append([NewRecord("interactions", b"x", b"{oops")])
        run(log, settings)
    assert findings(audit(log, settings)) == CLEAN
    return log


def key_of(log: OwnedLog, topic: str, n: int) -> bytes:
    """Of the nth record of a topic with one partition, in the database."""
    return b"r/" + topic.encode() + b"/" + bytes(4) + read_all(log, topic)[n].offset.to_bytes(8, "big")


def newest(log: OwnedLog, topic: str) -> int:
    """Which record is the last of its key, and not the first."""
    keys = [record.key for record in read_all(log, topic)]
    return next(n for n, key in enumerate(keys) if keys.count(key) > 1 and key not in keys[n + 1 :])


@pytest.mark.parametrize("topic", ["recommendations", "quality", "interactions.dead", "freshet.epochs"])
def test_an_output_that_is_gone_is_lost(topic: str, published: OwnedLog, settings: Settings) -> None:
    if topic == "quality":
        del published._tables.db[key_of(published, topic, -1)]
    elif topic == "recommendations":
        del published._tables.db[key_of(published, topic, newest(published, topic))]
    elif topic == "interactions.dead":
        del published._tables.db[key_of(published, topic, 1)]
    else:
        del published._tables.db[key_of(published, topic, 0)]
        with pytest.raises(StateUnreadable, match="no longer holds its first records"):
            audit(published, settings)
        return
    assert findings(audit(published, settings)) == (1, 0, 0, 0)


def test_what_a_newer_record_superseded_may_be_gone(published: OwnedLog, settings: Settings) -> None:
    """And only that: with the newest of a key gone as well, that one is lost."""
    records = read_all(published, "recommendations")
    counts = Counter(record.key for record in records)
    user = next(key for key, count in counts.items() if count > 1)
    mine = [n for n, record in enumerate(records) if record.key == user]
    for n in reversed(mine[:-1]):
        del published._tables.db[key_of(published, "recommendations", n)]
    found = audit(published, settings)
    assert findings(found) == CLEAN
    assert found.superseded == len(mine) - 1
    assert "gone by compaction" in found.text()


@pytest.mark.parametrize("topic", ["recommendations", "quality", "interactions.dead", "freshet.epochs"])
def test_a_record_twice_is_doubled_and_a_strange_one_is_foreign(
    topic: str, published: OwnedLog, settings: Settings
) -> None:
    record = read_all(published, topic)[-1]
    for value in (b"hello", b'{"not": "ours"}', None):
        published.append([NewRecord(topic, b"somebody", value)])
    found = audit(published, settings)
    assert findings(found) == (0, 0, 0, 3)
    assert found.is_fine()
    assert "3 records of the output topics are of no epoch" in found.text()
    published.append([NewRecord(topic, record.key, record.value, record.headers)])
    assert findings(audit(published, settings)) == (0, 1, 0, 3)
    run(published, settings)  # and none of it stops a worker


def test_what_was_refused_is_no_dead_letter_where_others_write_it_there(
    published: OwnedLog, settings: Settings
) -> None:
    published.append(
        [NewRecord(topic, b"x", b"{oops") for topic in ("interactions", "interactions.dead", "interactions")]
    )
    run(published, settings)
    assert findings(audit(published, settings)) == (0, 0, 0, 1)


def test_what_a_worker_writes_meanwhile_is_neither_doubled_nor_foreign(published: OwnedLog, settings: Settings) -> None:
    """Epochs, lists, qualities and dead letters that come while epochs are taken again are later ones."""
    later = [interaction(u, i, t) for u, i, t in checkerboard(events=400)[200:]]
    before = len(read_all(published, "recommendations"))

    def meanwhile(_: int) -> None:
        if later:
            published.append([*later, NewRecord("interactions", b"x", b"{oops")])
            later.clear()
            run(published, settings)

    found = audit(published, settings, meanwhile)
    assert not later
    assert len(read_all(published, "recommendations")) > before
    assert findings(found) == CLEAN


def test_a_list_with_something_else_in_it_differs(published: OwnedLog, settings: Settings) -> None:
    key = key_of(published, "recommendations", newest(published, "recommendations"))
    k, value, headers, t = msgspec.msgpack.decode(published._tables.db[key])
    row = json.loads(value)
    row["items"] = row["items"][1:]
    published._tables.db[key] = msgspec.msgpack.encode((k, json.dumps(row).encode(), headers, t))
    assert findings(audit(published, settings)) == (0, 0, 1, 0)


def test_the_command_is_clean_where_compaction_and_foreign_records_were(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings.log
    log: Any = EmbeddedLog(settings.log, compaction_lag_ms=0)
    log.create(topic_specs(settings, partitions=1))
    for n in range(3):
        log.append([interaction(u, i, t) for u, i, t in checkerboard(events=200 * (n + 1))[200 * n :]])
        run(log, settings)
    log.append([NewRecord("recommendations", b"somebody", b"hello")])
    log.close()
    words = ["--log", str(settings.log), "--state", str(settings.state)]
    assert main(["checkpoint", "verify", "--replay", *words]) == 0
    said = capsys.readouterr().out
    assert "0 are lost, 0 doubled, 0 differ" in said
    assert "gone by compaction" in said
    assert "1 record of the output topics is of no epoch" in said
    assert main(["checkpoint", "verify", "--replay", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["fine"], found["lost"], found["doubled"], found["foreign"]) == (True, 0, 0, 1)


def test_epochs_of_other_equations_are_not_compared(
    published: OwnedLog, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After an upgrade that changes what the model computes; the state goes on, and its manifests say by what."""
    caplog.set_level("INFO", "streamer.worker")
    for module in (in_force, streamer.ops.audit):
        monkeypatch.setattr(module, "EQUATIONS", EQUATIONS + 1)
    with pytest.raises(StateUnreadable, match=f"was taken by equations {EQUATIONS} .*this version has {EQUATIONS + 1}"):
        audit(published, settings)
    published.append([interaction(u, i, t) for u, i, t in checkerboard(events=700)[600:]])
    run(published, settings)
    assert f"equations {EQUATIONS} → {EQUATIONS + 1}" in caplog.text
    monkeypatch.undo()
    with pytest.raises(StateUnreadable, match=f"was taken by equations {EQUATIONS + 1} of the model"):
        audit(published, settings)


def test_changes_of_items_that_are_gone_are_said(log: OwnedLog, settings: Settings) -> None:
    """A list that cannot be made again is neither lost nor doubled: it cannot be told."""
    for n in range(3):
        value = json.dumps({"item_id": "i3", "title": f"Title {n}", "categories": [f"c{n}"]}).encode()
        log.append([NewRecord("items", b"i3", value), NewRecord("items", b"i5", None if n % 2 else value)])
        log.append(
            [interaction(u, i, t) for u, i, t in checkerboard(events=100 * (n + 1), users=6, items=8)[100 * n :]]
        )
        run(log, settings)
    assert findings(audit(log, settings)) == CLEAN
    for n in (0, 0, 0):
        del log._tables.db[key_of(log, "items", n)]
    found = audit(log, settings)
    assert findings(found) == CLEAN
    assert found.untold
    assert "compaction took records of items or users" in found.text()


def test_an_item_known_only_by_a_dislike_is_whole(log: OwnedLog, settings: Settings, tmp_path: Path) -> None:
    log.append([sent("view", 1, 1), sent("dislike", 2, 2), sent("catalogue user", 3, 3), sent("item", 4, 4)])
    run(log, settings)
    assert verify(log, settings)[1] == []
    there_and_back(log, settings, tmp_path)


def test_export_refuses_what_import_refuses(log: OwnedLog, settings: Settings) -> None:
    """A checkpoint that lacks a page leaves no file."""
    log.append([interaction(u, i, t) for u, i, t in checkerboard(events=300)])
    run(log, settings)
    log.stored_state("freshet").write({b"model/items/" + (3).to_bytes(8, "big"): None})
    words = ["--log", str(settings.log), "--state", str(settings.state)]
    assert main(["checkpoint", "export", "out.parquet", *words]) == 1
    assert not Path("out.parquet").exists()
    assert not list(Path().glob(".out*"))
