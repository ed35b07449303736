"""The tables of deploy/README.md: every metric, and every alarm."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

PARTS = ("run", "serve", "feedback")
Kind = Literal["counter", "gauge", "histogram"]


class MetricRow(NamedTuple):
    """A metric of the table, and what its name and labels say of it."""

    part: str
    name: str
    labels: tuple[str, ...]
    what: str

    @property
    def kind(self) -> Kind:
        """What Prometheus takes it for: `_total` ends a counter's name, `le` is a label of histograms alone."""
        if "le" in self.labels:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which Prometheus keeps it."""
        return tuple(self.name + end for end in ("_bucket", "_sum", "_count")) if "le" in self.labels else (self.name,)


class AlarmRow(NamedTuple):
    """An alarm of the table. expression: PromQL; lasts: how long it must be true, as Prometheus writes times."""

    name: str
    expression: str
    lasts: str
    severity: str
    says: str
    mend: str


def metric_rows(readme: str) -> list[MetricRow]:
    """Every metric, in the table's order. readme: the text of deploy/README.md."""
    return [
        MetricRow(part, name.strip("`"), tuple(re.findall(r"\w+", labels)), what)
        for part in PARTS
        for name, labels, what in _rows(readme, f"metrics of {part}")
    ]


def alarm_rows(readme: str) -> list[AlarmRow]:
    """Every alarm, in the table's order. readme: the text of deploy/README.md."""
    return [
        AlarmRow(name.strip("`"), expression.strip("`"), *rest) for name, expression, *rest in _rows(readme, "alarms")
    ]


def _rows(readme: str, table: str) -> Iterator[list[str]]:
    inside = readme.partition(f"<!-- {table} -->")[2].partition(f"<!-- /{table} -->")[0]
    lines = [line for line in inside.splitlines() if line.startswith("|")]
    for line in lines[2:]:  # after the names of the columns and the line below them
        yield [cell.strip() for cell in line.strip("|").split("|")]
