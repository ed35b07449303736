"""`python -m deploy.generate`: writes what follows from the tables, the settings and the chart."""

import json
from pathlib import Path
from typing import Any

import yaml

from deploy.generate.chart_schema import chart_schema
from deploy.generate.environment import example_environment
from deploy.generate.manifests import HelmMissing, alert_manifest, chart_digest, manifests
from deploy.generate.monitoring import dashboard, rules
from deploy.generate.reference import reference
from deploy.generate.tables import PARTS, alarm_rows, metric_rows

DEPLOY = Path(__file__).parents[1]
CHART = DEPLOY / "helm" / "freshet"
MADE = "# Made by `python -m deploy.generate`; changes here are lost.\n"


def from_tables_and_settings() -> dict[str, str]:
    """Text by path below deploy/, of all that needs no tool."""
    readme = (DEPLOY / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    metrics = metric_rows(readme)
    dashboards = {
        f"monitoring/dashboards/{part}.json": _json(dashboard(part, [row for row in metrics if row.part == part]))
        for part in PARTS
    }
    alarms = rules(alarm_rows(readme))
    alerts = _yaml(alarms)
    return {
        **dashboards,
        "monitoring/alerts.yaml": alerts,
        "kustomize/components/prometheus-operator/prometheusrule.yaml": _yaml(alert_manifest(alarms)),
        "helm/freshet/alerts.yaml": alerts,  # a chart reads no file outside its own folder
        "helm/freshet/values.schema.json": _json(chart_schema(values)),
        "example.env": example_environment(),
    }


def from_chart() -> dict[str, str]:
    """Text by path below deploy/, of what Helm renders. Raises HelmMissing."""
    stamp = f"{MADE}# of the chart {chart_digest(CHART)}\n"
    return {f"kustomize/{name}": stamp + text for name, text in manifests(CHART).items()}


def main() -> None:
    """Writes every file; the manifests where a Helm is at hand."""
    for name, text in {**from_tables_and_settings(), **reference()}.items():
        _write(name, text)
    try:
        made = manifests(CHART)
    except HelmMissing as error:
        print(f"kustomize/ stays as it is: {error}")
        return
    stamp = f"{MADE}# of the chart {chart_digest(DEPLOY / 'helm' / 'freshet')}\n"
    for name, text in made.items():
        _write(f"kustomize/{name}", stamp + text)


def _yaml(value: dict[str, Any]) -> str:
    return MADE + yaml.safe_dump(value, sort_keys=False, width=1000)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(name: str, text: str) -> None:
    path = DEPLOY / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        print(f"deploy/{name}")


if __name__ == "__main__":
    main()
