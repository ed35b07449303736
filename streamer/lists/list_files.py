"""Lists as Parquet files that an evaluator without our code can score."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamer.lists.listed_items import SOURCE_NAMES
from streamer.runtime.whole_files import whole_file
from tgn.graph import U8
from tgn.prequential import Lists


def list_column(lists: Lists, rows: np.ndarray, ids: Sequence[str]) -> pa.ListArray:
    """The ids of the lists in `rows`, best first: list<string>, one entry a row."""
    offsets, places = _places(lists, rows)
    values = pa.DictionaryArray.from_arrays(pa.array(lists.item[rows][places]), pa.array(ids, pa.string()))
    return pa.ListArray.from_arrays(offsets, values.cast(pa.string()))


def score_column(lists: Lists, rows: np.ndarray) -> pa.ListArray:
    """The scores of the same items: list<float>."""
    offsets, places = _places(lists, rows)
    return pa.ListArray.from_arrays(offsets, pa.array(lists.score[rows][places], pa.float32()))


def source_column(lists: Lists, source: U8, rows: np.ndarray) -> pa.ListArray:
    """The sources of the same items, source: [N, K] codes of `listed_items`: list<string>."""
    offsets, places = _places(lists, rows)
    values = pa.DictionaryArray.from_arrays(
        pa.array(source[rows][places].astype(np.int8)), pa.array(SOURCE_NAMES, pa.string())
    )
    return pa.ListArray.from_arrays(offsets, values.cast(pa.string()))


def _places(lists: Lists, rows: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """[N + 1] where each list begins, and [N, K] bool: the places that hold an item."""
    sizes = lists.size[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.array(offsets), np.arange(lists.item.shape[1]) < sizes[:, None]


class TestLists:
    """Writes lists to a Parquet file, a row an event; events without a list get an empty one.

    `event` and `items` are what a list is worth by; then for whom and when it was made (null where the event could not
    be taken), and the score and the source of each item. The file appears when this is closed. Where it ends by an
    error, it does so only for lists of committed epochs.
    """

    SCHEMA = pa.schema(
        [
            ("event", pa.int64()),
            ("items", pa.list_(pa.string())),
            ("user_id", pa.string()),
            ("timestamp", pa.int64()),
            ("scores", pa.list_(pa.float32())),
            ("sources", pa.list_(pa.string())),
        ]
    )

    def __init__(self, path: Path | None) -> None:
        self._writer: pq.ParquetWriter | None = None
        self._epoch: int | None = None  # the last one that is written
        self._written = False
        with ExitStack() as opened:
            if path:
                part = opened.enter_context(whole_file(path))
                self._writer = opened.enter_context(pq.ParquetWriter(part, self.SCHEMA))
            self._opened = opened.pop_all()

    def is_open(self) -> bool:
        """Whether there is a file to write to."""
        return self._writer is not None

    def reached(self, epoch: int) -> None:
        """Says that the lists up to this epoch are written; those of before the first call are in older files."""
        self._epoch = epoch

    def wants(self, epoch: int) -> bool:
        """Whether the lists of an epoch are still to be written, now that it is taken, for the first time or again."""
        return self._writer is not None and self._epoch is not None and epoch > self._epoch

    def write(
        self,
        events: np.ndarray,
        lists: Lists,
        source: U8,
        rows: np.ndarray,
        ids: Sequence[str],
        users: Sequence[str],
        times_ms: Sequence[int],
    ) -> None:
        """Appends one list an event number.

        Args:
            events: [N] the numbers.
            lists: the lists.
            source: [N, K] of their items, codes of `streamer.lists.listed_items`.
            rows: [N] those of the events.
            ids: of the items, by node index.
            users: [N] whose lists they are.
            times_ms: [N] when they were made.
        """
        if self._writer:
            self._append((
                pa.array(events, pa.int64()), list_column(lists, rows, ids), pa.array(users, pa.string()),
                pa.array(times_ms, pa.int64()), score_column(lists, rows),
                source_column(lists, source, rows),
            ))  # fmt: skip

    def write_empty(self, events: np.ndarray) -> None:
        """Appends empty lists: events that could not be taken count as misses."""
        if self._writer and len(events):
            nothing = {name: pa.nulls(len(events), self.SCHEMA.field(name).type) for name in ("user_id", "timestamp")}
            for name in ("items", "scores", "sources"):
                kind = self.SCHEMA.field(name).type
                starts = pa.array(np.zeros(len(events) + 1, np.int32))
                nothing[name] = pa.ListArray.from_arrays(starts, pa.array([], kind.value_type))
            columns = {"event": pa.array(events, pa.int64())} | nothing
            self._append([columns[name] for name in self.SCHEMA.names])

    def _append(self, columns: Sequence[pa.Array]) -> None:
        if self._writer:
            self._writer.write_table(pa.table(list(columns), schema=self.SCHEMA))
            self._written = True

    def close(self) -> None:
        """Makes the file appear."""
        self._opened.close()

    def __enter__(self) -> "TestLists":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (self._written and self._epoch is not None):
            self.close()
        else:
            self._opened.__exit__(kind, error, trace)
