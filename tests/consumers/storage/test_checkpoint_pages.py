"""Pages of a checkpoint are those of before or those of after, wherever the writing ends and whenever they are read."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import WriteBatch

from consumers.errors import CheckpointDamaged
from consumers.storage import checkpoint_pages
from consumers.storage.checkpoint_pages import CheckpointPages, Delta, pages_of
from consumers.storage.rocks import open_database, scan

PREFIX, REDO, POSITIONS = b"s/app/", b"d/app", b"p/app"
deltas: st.SearchStrategy[Delta] = st.dictionaries(
    st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=40), max_size=12
)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_pages, "PIECE_BYTES", 40)
        yield


def writes(pages: CheckpointPages, delta: Delta, positions: bytes) -> Iterator[Any]:
    """The batches of one checkpoint, in order; positions: what is to be durable with it."""
    yield from pages.staging(delta)
    end = WriteBatch(raw_mode=True)
    end.put(POSITIONS, positions)
    pages.put_end(end)
    yield end
    yield from pages.settling()


def replace(pages: CheckpointPages, delta: Delta, write: Callable[[Any], None]) -> None:
    for _ in pages.replacing(delta, write):
        pass


def applied(state: Mapping[bytes, bytes], delta: Delta) -> dict[bytes, bytes]:
    return {key: value for key, value in {**state, **delta}.items() if value is not None}


def read(db: Any) -> dict[bytes, bytes]:
    found = list(pages_of(db, PREFIX, REDO))
    assert [key for key, _ in found] == sorted({key for key, _ in found})
    return dict(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(deltas, st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=6))
def test_a_crash_leaves_the_pages_of_before_or_of_after(checkpoints: list[tuple[Delta, int, int]]) -> None:
    """Of each checkpoint so many writes happen before a crash, by one of several writers."""
    with TemporaryDirectory() as folder, closing(open_database(Path(folder) / "db")) as db:
        state: dict[bytes, bytes] = {}
        for n, (delta, count, writer) in enumerate(checkpoints):
            pages = CheckpointPages(db, PREFIX, REDO, writer)
            for batch in islice(writes(pages, delta, b"%d" % n), count):
                db.write(batch)
            if db.get(POSITIONS) == b"%d" % n:
                state = applied(state, delta)
            assert read(db) == state
            for begin in (b"\x00", b"a"):
                found = dict(pages_of(db, PREFIX, REDO, begin))
                assert found == {key: value for key, value in state.items() if key.startswith(begin)}
        replace(CheckpointPages(db, PREFIX, REDO), {}, db.write)
        assert read(db) == state
        assert list(scan(db, REDO + b"/")) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(deltas, min_size=1, max_size=6))
def test_one_writer_goes_on(changes: list[Delta]) -> None:
    with TemporaryDirectory() as folder, closing(open_database(Path(folder) / "db")) as db:
        state, pages = dict[bytes, bytes](), CheckpointPages(db, PREFIX, REDO)
        for delta in changes:
            replace(pages, delta, db.write)
            state = applied(state, delta)
            assert read(db) == state


def test_a_write_that_fails_is_made_good_by_the_next(tmp_path: Path) -> None:
    first, second = ({bytes([n]): bytes([n]) * size for n in range(8)} for size in (30, 20))
    for failing in range(20):
        with closing(open_database(tmp_path / str(failing))) as db:
            pages, left = CheckpointPages(db, PREFIX, REDO), [failing]

            def write(batch: Any, db: Any = db, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == -1:
                    raise RuntimeError("no space left")
                db.write(batch)

            with suppress(RuntimeError):
                replace(pages, first, write)
            assert read(db) in ({}, first)
            replace(pages, second, db.write)
            assert read(db) == second


def test_who_reads_meanwhile_sees_one_checkpoint(tmp_path: Path) -> None:
    """Every page says of which checkpoint it is."""
    with closing(open_database(tmp_path / "db")) as db:
        pages, ended = CheckpointPages(db, PREFIX, REDO), threading.Event()

        def write() -> None:
            for n in range(150):
                replace(pages, {b"%02d" % page: b"%d" % n for page in range(60)}, db.write)
            ended.set()

        writer = threading.Thread(target=write)
        writer.start()
        seen = set[bytes]()
        while not ended.is_set():
            found = read(db)
            assert len(set(found.values())) <= 1
            assert len(found) in (0, 60)
            seen |= set(found.values())
        writer.join()
        assert len(seen) > 1


@pytest.mark.parametrize("damage", [lambda value: value[:-1] + b"?", lambda value: b"", lambda value: b"12345678"])
def test_a_damaged_piece_is_said(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with closing(open_database(tmp_path / "db")) as db:
        delta: Delta = {bytes([n]): b"x" * 30 for n in range(8)}
        for batch in islice(writes(CheckpointPages(db, PREFIX, REDO), delta, b"0"), 6):
            db.write(batch)
        piece, value = next(scan(db, REDO + b"/"))
        db[piece] = damage(value)
        with pytest.raises(CheckpointDamaged, match="is damaged"):
            read(db)

        def settle_and_read() -> None:
            replace(CheckpointPages(db, PREFIX, REDO), {}, db.write)
            read(db)

        with pytest.raises(CheckpointDamaged, match="is damaged"):  # also where only a page of the piece is
            settle_and_read()
