"""What there is to know of a file before anything is done with it: counts, times, types, and what may be wrong."""

import datetime as dt
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from consumers.dead_letter import Reason
from consumers.decode_fields import UNDECODABLE
from consumers.files.looks import EARLY_MS, formats_of, unit_of
from consumers.files.names import SOMEBODY, plain
from consumers.files.reader import Opened
from consumers.files.rows import Refusals, number_of

NOBODY = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None", "\\N", "undefined")
_SAMPLE = 200  # refused rows that are looked at for what would read them


@dataclass(frozen=True)
class FirstLook:
    """What there is to know of a stream.

    Args:
        source: what it was read from.
        format: of the files, and the source whose files they are like.
        rows: how many, and `refused` of them by reason; `first_refused` is the first of these, in words.
        users, items: how many different ones the good rows name.
        first_ms, last_ms: the times of the good rows, epoch ms; None where there is none.
        event_types: type → good rows, most first.
        fields: our field → the column that was found by a usual name.
        open: columns that may be a field and were left.
        unread: columns that are no field, in a file of no source that is known.
        left_out: rows of another kind.
        order: "file" where times are made of the order of rows.
        early: good rows that lie before 1990.
        mend: flags with which refused rows could be read.
        nobody: text that rather says that there is no user, as NA → good rows that have it as their user.
    """

    source: str
    format: str
    rows: int
    refused: dict[str, int]
    first_refused: str
    users: int
    items: int
    first_ms: int | None
    last_ms: int | None
    event_types: dict[str, int]
    fields: dict[str, str] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    left_out: int = 0
    order: str = "time"
    early: int = 0
    mend: tuple[str, ...] = ()
    nobody: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """Rows that are not refused."""
        return self.rows - sum(self.refused.values())


def look_at(where: object, table: pa.Table, refusals: Refusals, opened: Sequence[Opened] = ()) -> FirstLook:
    """Looks at a table of interactions, as `read_interactions` gives it, and at how its files were read."""
    good = table if not table["reason"].null_count < len(table) else table.filter(pc.is_null(table["reason"]))
    times = pc.min_max(good["timestamp"]).as_py()
    types = pc.value_counts(good["event_type"].combine_chunks()).to_pylist()
    counted = sorted(types, key=lambda one: (-one["counts"], one["values"]))
    formats = dict.fromkeys(f"{one.format} of {one.preset}" if one.preset else one.format for one in opened)
    timeless = any(one.reading.order == "file" for one in opened)
    early = 0 if timeless else pc.sum(pc.less(good["timestamp"], EARLY_MS)).as_py() or 0
    nobody = {text: pc.sum(pc.equal(good["user_id"], text)).as_py() or 0 for text in NOBODY}
    reasons = refusals.counts() if refusals.rows else {}
    return FirstLook(
        source=str(where),
        format=", ".join(formats) or "a topic",
        rows=len(table),
        refused=reasons,
        first_refused=refusals.first() if refusals.rows else "",
        users=pc.count_distinct(good["user_id"]).as_py(),
        items=pc.count_distinct(good["item_id"]).as_py(),
        first_ms=times["min"],
        last_ms=times["max"],
        event_types={one["values"]: one["counts"] for one in counted},
        fields=dict(opened[0].matched.said) if opened else {},
        open=opened[0].matched.open if opened else (),
        unread=opened[0].matched.unread if opened else (),
        left_out=sum(one.left_out for one in opened),
        order="file" if timeless else "time",
        early=early,
        mend=flags_for(refusals) or _other_user(refusals, opened),
        nobody={text: rows for text, rows in nobody.items() if rows},
    )


def flags_for(refusals: Refusals) -> tuple[str, ...]:
    """Flags with each of which the refused times could be read; none where nothing is known to."""
    wanted = [row for row in refusals.rows if row.reason in (Reason.BAD_TIMESTAMP, Reason.FUTURE_TIMESTAMP)]
    cells = [cell for row in wanted[:_SAMPLE] if (cell := _time_of(row.record)) not in (None, "")]
    numbers = [number_of(cell) if isinstance(cell, str) else cell for cell in cells]
    if cells and all(isinstance(number, int | float) for number in numbers):
        unit = unit_of(numbers)
        return (f"--time-unit {unit}",) if unit and unit != "ms" else ()
    texts = [cell for cell in cells if isinstance(cell, str)]
    return tuple(f"--time-format '{one}'" for one in formats_of(texts)) if len(texts) == len(cells) else ()


def _other_user(refusals: Refusals, opened: Sequence[Opened]) -> tuple[str, ...]:
    """A flag that names somebody by another column in rows without a user, where there is one that says who it was."""
    lacking = [row for row in refusals.rows if "user_id" in f"{row.shown} {row.message}"]
    if not lacking or len(lacking) < len(refusals.rows) or not opened:
        return ()
    found = opened[0].matched
    theirs = found.field_map.get("user_id", "user_id")
    others = [name for name in found.unread if any(word in plain(name) for word in SOMEBODY) and name != theirs]
    return (f"--map {shlex.quote(f'user_id={theirs}|{others[0]}')}",) if len(others) == 1 else ()


def _time_of(record: bytes) -> Any:
    try:
        value = msgspec.json.decode(record)
    except UNDECODABLE:
        return None
    return value.get("timestamp") if isinstance(value, dict) else None


def moment(time_ms: int) -> str:
    """A time for people.

    >>> moment(1573463494000)
    '2019-11-11 09:11:34'
    """
    return (dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=time_ms)).strftime("%Y-%m-%d %H:%M:%S")
