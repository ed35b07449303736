"""What is published is built, looked into, installed and run, and the release checks find what is wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from deploy.release.artifacts import ASK_NOBODY, CLIENT, OF_CLIENT, Built, Failed, build, run, strangers
from deploy.release.sources import (
    ROOT,
    WHERE_VERSIONS_ARE,
    check_changelog,
    check_generated,
    check_tag,
    check_versions,
    version_of,
)
from tests.waiting import scaled

EVENTS = "user_id,item_id,timestamp\n" + "".join(f"u{n % 5},i{n % 7},{n * 1000}\n" for n in range(200))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("built") / "dist")


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the wheel alone; packages that it needs are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(built.wheel)], check=True)
    return folder


def call(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command `freshet` of the wheel, in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    return subprocess.run(
        [installed / "bin" / "freshet", *arguments], cwd=folder, env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, timeout=scaled(240),
    )  # fmt: skip


def tracked() -> set[str]:
    """What is committed, or would be."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


def test_the_wheel_has_the_packages_and_their_data_and_nothing_else(built: Built) -> None:
    names = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    ours = {n for n in tracked() if n.partition("/")[0] in ("streamer", "consumers", "tgn") and not n.endswith(".md")}
    assert names == ours | {"streamer/topics.yaml"}
    assert {"streamer/py.typed", "consumers/py.typed", "tgn/py.typed"} <= names
    assert strangers(built.wheel) == []


@pytest.mark.parametrize(
    "name", ["tests/conftest.py", "streamer/tests/one.py", "tgn/test_one.py", "shared/data.parquet", "tgn/NOTES.md"]
)
def test_a_stranger_in_a_wheel_is_found(name: str, built: Built, tmp_path: Path) -> None:
    other = tmp_path / built.wheel.name
    shutil.copy(built.wheel, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr(name, "")
    assert strangers(other) == [name]


def test_the_sdist_has_what_is_committed_and_makes_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO"} <= tracked()
    assert {"Makefile", "requirements.lock", "tests/conftest.py", "deploy/topics.yaml", "CITATION.cff"} <= names
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)])
    assert (tmp_path / built.wheel.name).read_bytes() == built.wheel.read_bytes()


def test_what_the_index_shows_is_said(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        [about] = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert f"\nName: freshet-recommender\nVersion: {version_of()}\n" in about
    for line in ("License-Expression: Apache-2.0", "Requires-Python: >=3.11", "Classifier: Typing :: Typed"):
        assert f"\n{line}\n" in about
    assert about.endswith((ROOT / "README.md").read_text())


def test_the_wheel_alone_says_its_help_and_plays_a_stream(installed: Path, tmp_path: Path) -> None:
    told = call(installed, tmp_path, "--help")
    assert told.returncode == 0, told.stderr
    assert "replay" in told.stdout
    assert call(installed, tmp_path, "--version").stdout == f"freshet {version_of()}\n"
    (tmp_path / "events.csv").write_text(EVENTS)
    done = call(installed, tmp_path, "demo", "--file", "events.csv", "--exit", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["events"] == 200
    where = "import streamer, consumers, tgn; print(streamer.__file__, consumers.__file__, tgn.__file__)"
    files = run_python(installed, tmp_path, where).split()
    assert all(Path(file).is_relative_to(installed) for file in files)


def run_python(installed: Path, folder: Path, code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_client_is_a_distribution_of_its_own(tmp_path: Path) -> None:
    client = build(CLIENT, tmp_path / "dist")
    assert strangers(client.wheel, OF_CLIENT) == []
    with zipfile.ZipFile(client.wheel) as archive:
        names = set(archive.namelist())
        [about] = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    ours = {name.removeprefix("deploy/clients/python/") for name in tracked() if "/freshet_client/" in name}
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert f"freshet_client-{version_of()}.dist-info/licenses/LICENSE" in names
    assert f"\nName: freshet-client\nVersion: {version_of()}\n" in about
    assert re.findall(r"^Requires-Dist: (.*)$", about, re.M) == ["httpx>=0.28"]
    with tarfile.open(client.sdist) as archive:
        assert {"LICENSE", "README.md", *ours} <= {name.partition("/")[2] for name in archive.getnames()}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "installed"), str(client.wheel)], check=True)
    where = "import freshet_client; print(freshet_client.__file__)"
    assert run_python(tmp_path / "installed", tmp_path, where + "\n" + ASK_NOBODY).startswith(f"{tmp_path}/installed/")


def test_a_build_that_fails_says_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["hatchling"]\n[project]\nname = "a b"\n')
    with pytest.raises(Failed, match="hatchling"):
        build(tmp_path, tmp_path / "dist")
    with pytest.raises(Failed, match="no-such-tool is not installed"):
        run(["no-such-tool"])


def test_every_file_that_names_the_version_names_this_one() -> None:
    assert check_versions(version_of(), ROOT).fine
    assert check_generated().fine


@pytest.mark.parametrize("name", sorted(WHERE_VERSIONS_ARE))
def test_another_version_in_a_file_is_found(name: str, tmp_path: Path) -> None:
    for each in WHERE_VERSIONS_ARE:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / each).read_text()
        (tmp_path / each).write_text(text.replace(version_of(), "9.9.9", 1) if each == name else text)
    found = check_versions(version_of(), tmp_path)
    assert not found.fine
    assert f"{name} ['9.9.9']" in found.found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("## Unreleased\n- a\n", "has no section"),
        ("## 1.2.3\n- a\n", "has no section"),
        ("## Unreleased\n- a\n## 1.2.3 - 2026-11-30\n- b\n", "under Unreleased"),
        ("## Unreleased\n## 1.2.3 - 2026-11-30\n", "says nothing"),
        ("## Unreleased\n\n## 1.2.3 - 2026-11-30\n- b\n## 1.2.2 - 2026-01-01\n- a\n", "1.2.3 - 2026-11-30"),
    ],
)
def test_the_changelog_has_the_version_and_nothing_beside_it(text: str, says: str) -> None:
    found = check_changelog("1.2.3", "# Changelog\n\n" + text)
    assert says in found.found
    assert found.fine == (says == "1.2.3 - 2026-11-30")
    assert bool(found.mend) != found.fine


def test_a_release_is_a_commit_with_its_tag_and_nothing_beside_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    git("init", "--quiet")
    (tmp_path / "a").write_text("a")
    assert "1 files are not committed" in check_tag("1.2.3", tmp_path).found
    git("add", "a")
    git("commit", "--quiet", "-m", "a")
    assert "no tag" in check_tag("1.2.3", tmp_path).found
    git("tag", "v1.2.2")
    assert not check_tag("1.2.3", tmp_path).fine
    git("tag", "v1.2.3")
    assert check_tag("1.2.3", tmp_path).fine


def test_the_citation_and_the_security_note_are_there() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    settings = set(re.findall(r"`([a-z_]+)`", (ROOT / "SECURITY.md").read_text()))
    assert {"api_key", "api_key_file", "cors_origins", "allowed_hosts"} <= settings
