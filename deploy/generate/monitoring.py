"""Prometheus' rules and Grafana's dashboards, from the tables of metrics and alarms."""

from collections.abc import Sequence
from typing import Any

from deploy.generate.tables import AlarmRow, MetricRow

COLUMNS, WIDTH, HEIGHT = 3, 8, 8  # Grafana's grid is 24 wide
SOURCE = {"type": "prometheus", "uid": "${source}"}
RATE = "[$__rate_interval]"


def rules(alarms: Sequence[AlarmRow]) -> dict[str, Any]:
    """A file of rules, as Prometheus reads it."""
    return {
        "groups": [
            {
                "name": "freshet",
                "rules": [
                    {
                        "alert": alarm.name,
                        "expr": alarm.expression,
                        "for": alarm.lasts,
                        "labels": {"severity": alarm.severity},
                        "annotations": {"summary": alarm.says, "description": alarm.mend},
                    }
                    for alarm in alarms
                ],
            }
        ]
    }


def dashboard(part: str, metrics: Sequence[MetricRow]) -> dict[str, Any]:
    """A dashboard of one process, `run`, `serve` or `feedback`: a panel for each of its metrics, in their order."""
    return {
        "uid": f"freshet-{part}",
        "title": f"Freshet: {part}",
        "tags": ["freshet"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Freshet", "tags": ["freshet"], "asDropdown": False}],
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(place, metric) for place, metric in enumerate(metrics)],
    }


def _panel(place: int, metric: MetricRow) -> dict[str, Any]:
    row, column = divmod(place, COLUMNS)
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": _title(metric),
        "description": f"{metric.what} ({metric.name})",
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": _unit(metric), "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": ref, "expr": expression, "legendFormat": legend, "datasource": SOURCE}
            for ref, (expression, legend) in zip("AB", _queries(metric), strict=False)
        ],
    }


def _queries(metric: MetricRow) -> list[tuple[str, str]]:
    """PromQL and the legend of what it gives."""
    by = ", ".join(metric.labels) or "instance"
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels or ("instance",))
    if metric.kind == "histogram":
        rate = f"sum by (le) (rate({metric.name}_bucket{RATE}))"
        return [(f"histogram_quantile({q}, {rate})", f"{q:g} quantile") for q in (0.5, 0.99)]
    if metric.kind == "counter":
        return [(f"sum by ({by}) (rate({metric.name}{RATE}))", legend)]
    if _is_date(metric):
        return [(f"{metric.name} * 1000", "{{instance}}")]
    return [(metric.name, legend if not metric.labels else f"{{{{instance}}}} {legend}")]


def _title(metric: MetricRow) -> str:
    name = metric.name.removeprefix("freshet_").removesuffix("_total").replace("_", " ")
    return f"{name} a second" if metric.kind == "counter" else name


def _unit(metric: MetricRow) -> str:
    if _is_date(metric):
        return "dateTimeAsIso"
    if metric.kind == "counter":
        return "Bps" if "_bytes" in metric.name else "cps"
    if metric.name.endswith("_seconds"):
        return "s"
    return "bytes" if metric.name.endswith("_bytes") else "short"


def _is_date(metric: MetricRow) -> bool:
    return "since 1970" in metric.what
