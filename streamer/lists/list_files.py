"""Lists as Parquet files that an evaluator without our code can score."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgn.prequential import Lists


def list_column(lists: Lists, rows: np.ndarray, ids: Sequence[str]) -> pa.ListArray:
    """The ids of the lists in `rows`, best first: list<string>, one entry a row."""
    sizes = lists.size[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    listed = lists.item[rows]
    flat = listed[np.arange(listed.shape[1]) < sizes[:, None]]
    values = pa.DictionaryArray.from_arrays(pa.array(flat), pa.array(ids, pa.string()))
    return pa.ListArray.from_arrays(pa.array(offsets), values.cast(pa.string()))


class TestLists:
    """Writes `event`, `items` rows to a Parquet file; events without a list get an empty one."""

    SCHEMA = pa.schema([("event", pa.int64()), ("items", pa.list_(pa.string()))])

    def __init__(self, path: Path | None) -> None:
        self._writer = pq.ParquetWriter(path, self.SCHEMA) if path else None
        self._epoch: int | None = None  # the last one that is written

    def reached(self, epoch: int) -> None:
        """Says that the lists up to this epoch are written; those of before the first call are in older files."""
        self._epoch = epoch

    def wants(self, epoch: int) -> bool:
        """Whether the lists of an epoch are still to be written, now that it is taken, for the first time or again."""
        return self._writer is not None and self._epoch is not None and epoch > self._epoch

    def write(self, events: np.ndarray, items: pa.ListArray) -> None:
        """Appends one list an event number."""
        if self._writer:
            self._writer.write_table(pa.table([pa.array(events, pa.int64()), items], schema=self.SCHEMA))

    def write_empty(self, events: np.ndarray) -> None:
        """Appends empty lists: events that could not be taken count as misses."""
        if len(events):
            empty = pa.ListArray.from_arrays(pa.array(np.zeros(len(events) + 1, np.int32)), pa.array([], pa.string()))
            self.write(events, empty)

    def close(self) -> None:
        """Makes the file readable."""
        if self._writer:
            self._writer.close()

    def __enter__(self) -> "TestLists":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
