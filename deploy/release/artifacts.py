"""What is checked of what is published: built, looked into, installed in an environment of its own, run, listed."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.release.sources import ROOT
from streamer.ops.doctor import Finding

PACKAGES, OF_CLIENT = frozenset({"consumers", "streamer", "tgn"}), frozenset({"freshet_client"})
CLIENT = ROOT / "deploy" / "clients" / "python"
SUFFIXES = frozenset({".css", ".html", ".js", ".py", ".svg", ".typed", ".yaml"})
MOST_BYTES = 2_000_000
ASK_NOBODY = """
from freshet_client import AsyncClient, Client, Unreachable
try:
    Client("http://127.0.0.1:9", retries=0).recommendations("ann")
except Unreachable as error:
    print("Unreachable:", error)
"""
TWINE, CYCLONEDX = "twine==7.0.0", "cyclonedx-bom==7.5.0"


class Built(NamedTuple):
    """What is published."""

    sdist: Path
    wheel: Path


class Failed(Exception):
    """A step that has to succeed did not; its message says which and what it said."""


def build(source: Path, folder: Path) -> Built:
    """Makes the sdist of a tree, and the wheel out of that sdist, in `folder`. Raises Failed."""
    shutil.rmtree(folder, ignore_errors=True)
    _hatchling(source, "sdist", folder)
    [sdist] = folder.glob("*.tar.gz")
    unpacked = folder / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    [tree] = unpacked.iterdir()
    _hatchling(tree, "wheel", folder)
    shutil.rmtree(unpacked)
    [wheel] = folder.glob("*.whl")
    return Built(sdist, wheel)


def _hatchling(source: Path, target: str, folder: Path) -> None:
    run([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)], cwd=source)


def strangers(wheel: Path, packages: frozenset[str] = PACKAGES) -> list[str]:
    """Files of a wheel that are not of these packages: tests, data, notes for who develops."""
    names = zipfile.ZipFile(wheel).namelist()
    [about] = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    return [
        name
        for name in names
        if not name.startswith(f"{about}/") and (name.partition("/")[0] not in packages or _is_strange(Path(name)))
    ]


def _is_strange(path: Path) -> bool:
    return path.suffix not in SUFFIXES or bool({"test", "tests"} & set(path.parts)) or path.name.startswith("test_")


def check_artifacts(folder: Path) -> Iterator[Finding]:
    """Builds into `folder`, and checks all of it; what depends on a step that failed is not reached."""
    try:
        built = build(ROOT, folder)
        size = built.wheel.stat().st_size
        wrong = strangers(built.wheel)
        yield Finding("wheel", not wrong, f"{built.wheel.name}, {size:,} bytes; strange: {wrong or 'nothing'}")
        yield Finding("size", size <= MOST_BYTES, f"{size:,} of at most {MOST_BYTES:,} bytes")
        yield _check_metadata("metadata", built)
        yield from _check_installed(built.wheel, folder)
        yield from _check_client(folder / "client")
    except Failed as failed:
        yield Finding("build", False, str(failed), "mend it, and check again")


def _check_metadata(check: str, built: Built) -> Finding:
    run([*_tool(TWINE, "twine"), "check", "--strict", str(built.sdist), str(built.wheel)])
    return Finding(check, True, "as the index wants it")


def _check_client(folder: Path) -> Iterator[Finding]:
    """The client, a distribution of its own: in an environment with what its own metadata asks for. Raises Failed."""
    built = build(CLIENT, folder)
    wrong = strangers(built.wheel, OF_CLIENT)
    yield Finding("client", not wrong, f"{built.wheel.name}, strange: {wrong or 'nothing'}")
    yield _check_metadata("client's metadata", built)
    environment = folder / "environment"
    python = environment / "bin" / "python"
    run(["uv", "venv", "--quiet", "--python", sys.executable, str(environment)])
    run(["uv", "pip", "install", "--quiet", "--python", str(python), str(built.wheel)])
    run(["uv", "pip", "check", "--python", str(python)])
    said = run([str(python), "-c", ASK_NOBODY], cwd=folder).strip()
    shutil.rmtree(environment)
    yield Finding("client installed", said.startswith("Unreachable: "), said)


def _check_installed(wheel: Path, folder: Path) -> Iterator[Finding]:
    """In an environment with the packages of requirements.core.lock and nothing else. Raises Failed."""
    environment = folder / "environment"
    python, freshet = environment / "bin" / "python", environment / "bin" / "freshet"
    run(["uv", "venv", "--quiet", "--python", sys.executable, str(environment)])
    install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    run([*install, "--require-hashes", "-r", str(ROOT / "requirements.core.lock")])
    run([*install, "--no-deps", str(wheel)])
    run(["uv", "pip", "check", "--python", str(python)])
    said = run([str(freshet), "--version"], cwd=folder).strip()
    yield Finding("installed", said == f"freshet {wheel.name.split('-')[1]}", said)
    run([str(freshet), "--help"], cwd=folder)
    summary = json.loads(run([str(freshet), "demo", "--exit", "--json"], cwd=folder).splitlines()[-1])
    yield Finding("demo", summary["events"] > 0, f"{summary['events']:,} events, {summary['quality']}")
    bill = folder / f"{wheel.name.rpartition('-py3')[0]}.cdx.json"
    command = [
        *_tool(CYCLONEDX, "cyclonedx-py"),
        "environment",
        str(python),
        "--pyproject",
        str(ROOT / "pyproject.toml"),
    ]
    run([*command, "--mc-type", "application", "--output-reproducible", "--validate", "--output-file", str(bill)])
    shutil.rmtree(environment)
    components = json.loads(bill.read_text())["components"]
    yield Finding("bill of materials", bool(components), f"{bill.name}, {len(components)} components")


def _tool(package: str, command: str) -> list[str]:
    return ["uv", "tool", "run", "--quiet", "--from", package, command]


def run(command: Sequence[str], cwd: Path = ROOT) -> str:
    """What a command prints; Python in it finds what is installed alone. Raises Failed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Failed(f"{error.filename} is not installed") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise Failed(f"`{' '.join(Path(word).name for word in command[:5])} …` ends with {done.returncode}: {said}")
    return done.stdout
