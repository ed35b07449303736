"""A checkpoint as one portable file: Parquet of keys and pages, with checksums; any Parquet reader opens it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.errors import DataRefused

KIND = b"freshet-checkpoint"
ROWS_A_GROUP = 10_000
_SCHEMA = pa.schema([("key", pa.binary()), ("page", pa.binary())], metadata={KIND: b"1"})


def write_file(pages: Iterable[tuple[bytes, bytes]], file: Path) -> int:
    """Writes the pages; the file appears when all of it is there. Returns how many there were."""
    part, count, rest = file.with_name(f".{file.name}.part"), 0, iter(pages)
    try:
        with pq.ParquetWriter(part, _SCHEMA, compression="zstd", use_dictionary=False, write_page_checksum=True) as out:
            while rows := list(islice(rest, ROWS_A_GROUP)):
                out.write_table(pa.table(list(zip(*rows, strict=True)), schema=_SCHEMA))
                count += len(rows)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return count


def read_file(file: Path) -> Iterator[tuple[bytes, bytes]]:
    """The pages in their order. Raises DataRefused where it is no such file, torn or damaged."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as stored:
            if KIND not in (stored.schema_arrow.metadata or {}):
                raise DataRefused(f"{file} is no checkpoint; `freshet checkpoint export` makes one")
            for batch in stored.iter_batches(ROWS_A_GROUP):
                yield from zip(batch["key"].to_pylist(), batch["page"].to_pylist(), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise DataRefused(f"{file} is torn or damaged ({_line(error)}); export it again") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
