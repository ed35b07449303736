"""Every metric and alarm, from the tables of deploy/README.md, which the code is compared with."""

from deploy.generate.reference.markdown import code, fenced, page, table
from deploy.generate.tables import PARTS, alarm_rows, metric_rows

ABOUT = """\
`freshet run --metrics-port 9464` answers `/metrics` for Prometheus, beside `/livez` and `/readyz`; without a port it
listens on nothing, and with one on 127.0.0.1. `freshet run feedback` does the same; `freshet serve` has the three on
its own port. No label names a user, an item or a record. Dashboards for Grafana are in
`deploy/monitoring/dashboards/`, one a process, with a panel for each metric; [Watch it](../operate/watch.md) says how
to use them."""

ABOUT_ALARMS = """\
`deploy/monitoring/alerts.yaml` has these as rules of Prometheus; the limits are to start from. Each is listed with
what to do first."""

PROCESS = {"run": "freshet run", "serve": "freshet serve", "feedback": "freshet run feedback"}


def metrics_page(tables: str) -> str:
    """The page of metrics. tables: the text of deploy/README.md."""
    rows = metric_rows(tables)
    parts = [
        f"## {PROCESS[part]}\n\n"
        + table(
            ["metric", "kind", "labels", "what"],
            [[code(row.name), row.kind, ", ".join(row.labels), row.what] for row in rows if row.part == part],
        )
        for part in PARTS
    ]
    return page("Metrics", ABOUT, *parts)


def alarms_page(tables: str) -> str:
    """The page of alarms. tables: the text of deploy/README.md."""
    parts = [
        f"## {alarm.name}\n\n{alarm.says} Severity: {alarm.severity}; it must be true for {alarm.lasts}.\n\n"
        f"**What to do:** {alarm.mend}\n\n{fenced(alarm.expression, 'promql')}"
        for alarm in alarm_rows(tables)
    ]
    return page("Alarms", ABOUT_ALARMS, *parts)
