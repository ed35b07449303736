"""The chart, as rendered in deploy/kustomize, is what the code takes, and as little as it can be."""

import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.web.health import health_endpoints
from streamer.worker.prometheus import RunMetrics
from tests.docs.deployed import DEPLOY, manifests, settings_with

CHART = DEPLOY / "helm" / "freshet"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
BASE = manifests("kustomize/base/freshet.yaml")
PODS = {
    m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in BASE if m["kind"] in ("StatefulSet", "Deployment")
}
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def named(kind: str, name: str) -> Any:
    [found] = [m["spec"] for m in BASE if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def settings_of_pod(pod: dict[str, Any]) -> Settings:
    [container] = pod["containers"]
    environment = {"FRESHET_BOOTSTRAP": VALUES["bootstrap"]}
    environment |= {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
    if "FRESHET_API_ADDRESS" in environment:
        address = environment["FRESHET_API_ADDRESS"]
        environment["FRESHET_API_ADDRESS"] = address.replace("$(POD)", "w-0").replace("$(NAMESPACE)", "shop")
    own = {name: value for name, value in environment.items() if name.startswith("FRESHET_")}
    return settings_with(container["args"], own)


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_what_the_process_answers(name: str) -> None:
    settings = settings_of_pod(PODS[name])
    [container] = PODS[name]["containers"]
    answered = {endpoint.path for endpoint in health_endpoints(RunMetrics(Settings()))}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in PROBES.items():
        asked = container[probe]["httpGet"]
        assert asked["path"] == path
        assert path in answered
        is_front = container["args"][0] == "serve"
        assert ports[asked["port"]] == (settings.port if is_front else settings.metrics_port)
        assert (settings.host if is_front else settings.metrics_host) == "0.0.0.0"


@pytest.mark.parametrize("name", PODS)
def test_pods_run_as_nobody_on_a_read_only_root(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}\n" in (DEPLOY / "Dockerfile").read_text()
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"]  # FRESHET_PORT=tcp://… is no port
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    [topics] = pod["initContainers"]
    assert settings_with(topics["args"], {"FRESHET_BOOTSTRAP": VALUES["bootstrap"]}).bootstrap == VALUES["bootstrap"]


def test_each_worker_keeps_its_state_and_is_asked_by_its_name() -> None:
    worker = named("StatefulSet", "freshet-worker")
    [claim] = worker["volumeClaimTemplates"]
    [container] = worker["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    settings = settings_of_pod(worker["template"]["spec"])
    assert str(settings.state).startswith(f"{mounts[claim['metadata']['name']]}/")
    service = named("Service", worker["serviceName"])
    assert service["publishNotReadyAddresses"]
    assert settings.api_address == f"http://w-0.{worker['serviceName']}.shop.svc:{settings.api_port}"
    assert service["selector"].items() <= worker["template"]["metadata"]["labels"].items()


def test_there_are_no_more_workers_than_partitions() -> None:
    partitions = {spec.name: spec.partitions for spec in topic_specs(Settings())}["interactions"]
    assert named("StatefulSet", "freshet-worker")["replicas"] <= partitions
    [scaled] = manifests("kustomize/components/keda/scaledobject.yaml")
    assert scaled["spec"]["maxReplicaCount"] == partitions
    [trigger] = scaled["spec"]["triggers"]
    settings = Settings()
    assert trigger["metadata"]["consumerGroup"] == settings.application
    assert trigger["metadata"]["topic"] == settings.interactions_topic
    assert scaled["spec"]["scaleTargetRef"]["name"] == "freshet-worker"


def test_the_network_lets_pass_what_the_processes_say_to_one_another() -> None:
    gateway, worker = named("NetworkPolicy", "freshet-gateway"), named("NetworkPolicy", "freshet-worker")
    api_port = settings_of_pod(PODS["freshet-worker"]).api_port

    def ports(rules: list[dict[str, Any]]) -> set[int]:
        return {port["port"] for rule in rules for port in rule["ports"]}

    assert ports(gateway["egress"]) == {53, 9092, api_port}
    assert ports(worker["egress"]) == {53, 9092}
    [asked] = [rule for rule in worker["ingress"] if rule["ports"][0]["port"] == api_port]
    [who] = asked["from"]
    assert who["podSelector"] == gateway["podSelector"]
    for name, pod in PODS.items():
        policy = named("NetworkPolicy", name)
        opened = {port["containerPort"] for container in pod["containers"] for port in container["ports"]}
        assert ports(policy["ingress"]) == opened


def test_budgets_and_policies_choose_pods_that_are_there() -> None:
    labels = [m["spec"]["template"]["metadata"]["labels"] for m in BASE if "template" in m["spec"]]
    for manifest in BASE:
        chosen = manifest["spec"].get("podSelector") or manifest["spec"].get("selector", {})
        wanted = chosen.get("matchLabels", chosen)
        assert sum(wanted.items() <= own.items() for own in labels) == 1, manifest["metadata"]["name"]
    assert {m["metadata"]["name"] for m in BASE if m["kind"] == "PodDisruptionBudget"} == {
        "freshet-worker", "freshet-gateway",
    }  # fmt: skip


def test_every_value_of_the_chart_is_used_and_every_used_one_is_there() -> None:
    texts = [file.read_text() for file in (CHART / "templates").iterdir()]
    used = {match for text in texts for match in re.findall(r"\.Values\.([A-Za-z_.]+)", text)}
    used |= {f"networkPolicy.{match}" for text in texts for match in re.findall(r"\$policy\.([A-Za-z]+)", text)}
    for part in ("workers", "gateway", "feedback"):
        used |= {f"{part}.pod"} | {f"{part}.persistence.{leaf}" for leaf in ("enabled", "size", "storageClass")}
    used -= {"gateway.persistence.enabled", "gateway.persistence.size", "gateway.persistence.storageClass"}
    there = {".".join(path) for path in leaves(VALUES)}
    within = {name for name in used if any(name.startswith(f"{leaf}.") for leaf in there)}  # settings.application
    tables = {name for name in used if any(leaf.startswith(f"{name}.") for leaf in there)}  # a part as a whole
    assert used - within - tables == there
    assert {name.removeprefix("settings.") for name in within} <= Settings.model_fields.keys()


def leaves(values: dict[str, Any]) -> list[list[str]]:
    found = []
    for name, value in values.items():
        found += [[name, *path] for path in leaves(value)] if isinstance(value, dict) and value else [[name]]
    return found


def test_the_schema_of_the_values_knows_the_settings_and_refuses_typos() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema is not installed")
    schema = json.loads((CHART / "values.schema.json").read_text())
    check = jsonschema.Draft7Validator(schema)
    assert check.is_valid(VALUES)
    assert check.is_valid({"settings": dict.fromkeys(Settings.model_fields.keys() - {"bootstrap"}, 1), "global": {}})
    assert not check.is_valid({"settings": {"kk": 1}})
    assert not check.is_valid({"gatway": {}})
    assert not check.is_valid({"workers": {"replicas": "two"}})


def built(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which holds kustomize, is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    check_schemas(found)
    return found


@pytest.mark.parametrize("path", ["base", "overlays/example"])
def test_kustomize_builds_what_kubernetes_takes(path: str) -> None:
    made = built(DEPLOY / "kustomize" / path)
    [worker] = [m for m in made if (m["kind"], m["metadata"]["name"]) == ("StatefulSet", "freshet-worker")]
    [config] = [m for m in made if m["kind"] == "ConfigMap"]
    [source] = worker["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert source["configMapRef"]["name"] == config["metadata"]["name"]
    settings_with(["topics", "create"], config["data"])
    assert ("replicas" in worker["spec"]) == (path == "base")  # in the overlay KEDA says how many


def test_kustomize_builds_workers_without_a_volume(tmp_path: Path) -> None:
    kustomize = os.path.relpath(DEPLOY / "kustomize", tmp_path.resolve())
    overlay = {"resources": [f"{kustomize}/base"], "components": [f"{kustomize}/components/rebuilt-state"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    states = [m["spec"] for m in built(tmp_path) if m["kind"] == "StatefulSet"]
    assert len(states) == 2
    for spec in states:
        assert "volumeClaimTemplates" not in spec
        assert {"name": "state", "emptyDir": {}} in spec["template"]["spec"]["volumes"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"keda": {"enabled": True}, "prometheusOperator": {"enabled": True}, "secretName": "keys"},
        {"workers": {"persistence": {"enabled": False}, "pod": {"nodeSelector": {"disk": "fast"}}}},
        {"settings": {"event_weights": {"view": 1}, "k": 7, "exclude_seen": True, "namespace": "shop"}},
        {"feedback": {"enabled": False}, "networkPolicy": {"enabled": False}, "topics": {"create": False}},
        {"gateway": {"allowedHosts": ["lists.example"]}, "networkPolicy": {"gatewayFrom": [{"podSelector": {}}]}},
    ],
    ids=str,
)
def test_the_chart_is_rendered_with_other_values(values: dict[str, Any]) -> None:
    if find_spec("helm_python") is None:
        pytest.skip("the package helm-python-sdk, which holds Helm 4, is not installed")
    from deploy.generate.manifests import render

    made = render(CHART, values)
    [config] = [manifest for manifest in made if manifest["kind"] == "ConfigMap"]
    settings = settings_with(["topics", "create"], config["data"])
    for name, value in values.get("settings", {}).items():
        assert getattr(settings, name) == value
    check_schemas(made)


def check_schemas(made: list[dict[str, Any]]) -> None:
    """Against the schemas of Kubernetes, where the package that holds them is installed; of other kinds there are none."""
    if find_spec("kubernetes_validate") is None:
        return
    import kubernetes_validate

    own = [manifest for manifest in made if "k8s.io" in manifest["apiVersion"] or "." not in manifest["apiVersion"]]
    assert own
    for manifest in own:
        kubernetes_validate.validate(manifest, "1.27", strict=True)
