"""A checkpoint as one portable file: Parquet of keys and pages, with checksums; any Parquet reader opens it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.errors import DataRefused
from consumers.storage.private_files import write_private
from streamer.runtime.whole_files import whole_file

KIND, SEAT = b"freshet-checkpoint", b"freshet-seat"
ROWS_A_GROUP = 10_000
_SCHEMA = pa.schema([("key", pa.binary()), ("page", pa.binary())])


def write_file(pages: Iterable[tuple[bytes, bytes]], file: Path, seat: str = "") -> int:
    """Writes the pages; the file appears when all of it is there. Returns how many there were.

    `seat`: whose state it is, as `StoredState.seat` has it.
    """
    schema = _SCHEMA.with_metadata({KIND: b"1", SEAT: seat.encode()})
    count, rest = 0, iter(pages)
    with whole_file(file) as part:
        write_private(part, "")  # the writer keeps the rights of a file that is there
        with pq.ParquetWriter(part, schema, compression="zstd", use_dictionary=False, write_page_checksum=True) as out:
            while rows := list(islice(rest, ROWS_A_GROUP)):
                out.write_table(pa.table(list(zip(*rows, strict=True)), schema=schema))
                count += len(rows)
    return count


def read_file(file: Path, called: str = "") -> Iterator[tuple[bytes, bytes]]:
    """The pages in their order. Raises DataRefused where it is no such file, torn or damaged.

    `called`: what messages call it, where that is not its path.
    """
    called = called or str(file)
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as stored:
            if KIND not in (stored.schema_arrow.metadata or {}):
                raise DataRefused(f"{called} is no file of `checkpoint export`")
            for batch in stored.iter_batches(ROWS_A_GROUP):
                yield from zip(batch["key"].to_pylist(), batch["page"].to_pylist(), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise DataRefused(f"{called} is torn or damaged ({_line(error)}); export it again") from error


def read_seat(file: Path) -> str:
    """Whose state is in a file that can be read."""
    return str((pq.read_schema(file).metadata or {}).get(SEAT, b"").decode())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
