"""Change events of a database, as Debezium writes them: the row after a change, or as it was before it went."""

from typing import Any, NamedTuple

from consumers.dead_letter import Reason
from consumers.decode_fields import Refused


class RowChange(NamedTuple):
    """What a change event says."""

    row: dict[str, Any]
    is_deletion: bool
    table: str | None
    committed_ms: int | None  # when the database committed it


def row_change(data: dict[str, Any]) -> RowChange | None:
    """The change in the value of a record, with the schema of the converter around it or without; None: it is none.

    Raises Refused where it is one of no row, such as a truncation.

    >>> row_change({"op": "d", "before": {"id": 7}, "source": {"connector": "mysql", "table": "buys", "ts_ms": 1000}})
    RowChange(row={'id': 7}, is_deletion=True, table='buys', committed_ms=1000)
    >>> row_change({"user_id": "ann", "op": "d"}) is None
    True
    """
    event = data["payload"] if "schema" in data and isinstance(data.get("payload"), dict) else data
    source = event.get("source")
    if "op" not in event or not isinstance(source, dict) or "connector" not in source:
        return None
    is_deletion = event["op"] == "d"
    row = event.get("before" if is_deletion else "after")
    if not isinstance(row, dict):
        raise Refused(Reason.MISSING_FIELD, f"a change event of the operation {str(event['op'])[:20]!r} without a row")
    table, committed_ms = source.get("table"), source.get("ts_ms")
    return RowChange(
        row,
        is_deletion,
        table if isinstance(table, str) else None,
        committed_ms if isinstance(committed_ms, int) else None,
    )
