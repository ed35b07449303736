"""The manifests of deploy/kustomize, which are the Helm chart as rendered with its own values."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

RELEASE = "freshet"
COMPONENTS = {
    "components/keda/scaledobject.yaml": ({"keda": {"enabled": True}}, "ScaledObject"),
    "components/prometheus-operator/podmonitor.yaml": ({"prometheusOperator": {"enabled": True}}, "PodMonitor"),
}
"""By file: the values that bring a part of the chart, and the kind that is that part."""
OF_TABLES = ("alerts.yaml", "values.schema.json")  # who adds an alarm or a setting needs no Helm


class HelmMissing(Exception):
    """There is no Helm to render a chart with."""


def chart_digest(chart: Path) -> str:
    """What the rendered manifests depend on: every file of the chart that is written by hand."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(file for file in chart.rglob("*") if file.is_file() and file.name not in OF_TABLES):
        digest.update(f" {file.relative_to(chart).as_posix()} ".encode() + file.read_bytes())
    return digest.hexdigest()


def alert_manifest(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules as the Prometheus operator takes them, as `templates/prometheus.yaml` makes them too."""
    labels = {"app.kubernetes.io/name": "freshet", "app.kubernetes.io/instance": RELEASE}
    metadata = {"name": RELEASE, "labels": labels}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": rules}


def manifests(chart: Path) -> dict[str, str]:
    """Text by path below deploy/kustomize. Settings are left out: an overlay generates them. Raises HelmMissing."""
    base = [manifest for manifest in render(chart, {}) if manifest["kind"] != "ConfigMap"]
    parts = {"base/freshet.yaml": base}
    for name, (values, kind) in COMPONENTS.items():
        parts[name] = [manifest for manifest in render(chart, values) if manifest["kind"] == kind]
    return {name: yaml.safe_dump_all(part, sort_keys=False, width=1000) for name, part in parts.items()}


def render(chart: Path, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The manifests of the chart, by kind and name. Raises HelmMissing."""
    try:
        from helm_python import Chart
    except ImportError:
        raise HelmMissing("the package helm-python-sdk, which holds Helm 4, is not installed") from None
    made = Chart.load(str(chart)).render(dict(values), name=RELEASE, namespace="default")
    found = [manifest for text in made.values() for manifest in yaml.safe_load_all(text) if manifest]
    return sorted(found, key=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))
