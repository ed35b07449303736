"""What is checked of the sources: versions, changelog, tag, what is generated, locks."""

import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from deploy.generate.__main__ import CHART, from_tables_and_settings
from deploy.generate.manifests import chart_digest
from streamer.ops.doctor import Finding

ROOT = Path(__file__).parents[2]
WHERE_VERSIONS_ARE = {
    "CITATION.cff": r"^version: (\S+)$",
    "deploy/clients/javascript/package.json": r'^  "version": "(\S+)"',
    "deploy/clients/python/pyproject.toml": r'^version = "(\S+)"',
    "deploy/helm/freshet/Chart.yaml": r"^(?:appVersion|version): (\S+)$",
    "deploy/compose.yaml": r"\bfreshet:(\d\S*)",
    "deploy/README.md": r"-t freshet:(\d[\w.]*)(?:-train)? ",
    "deploy/kustomize/base/freshet.yaml": r"\bfreshet:(\d\S*)",
    "deploy/kustomize/overlays/example/kustomization.yaml": r"newTag: ([^\s}]+)",
}
"""By file: what stands before each of our versions in it."""
LOCKS = ("requirements.lock", "requirements.core.lock", "deploy/image.lock", "deploy/train.lock")
_NUMBER = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"


def version_of(root: Path = ROOT) -> str:
    """The version that pyproject.toml has."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def check_sources(root: Path = ROOT) -> Iterator[Finding]:
    """Everything that needs no build, one after the other."""
    version = version_of(root)
    yield check_versions(version, root)
    yield check_changelog(version, (root / "CHANGELOG.md").read_text())
    yield check_tag(version, root)
    yield check_generated()
    yield check_locks(root)


def check_versions(version: str, root: Path) -> Finding:
    """Whether every file that names the version names this one."""
    if not re.fullmatch(_NUMBER, version):
        return Finding("version", False, f"{version} is no version", "write it as 1.2.3 or 1.2.3rc1")
    others = [
        f"{name} {sorted(found - {version}) or 'none'}"
        for name, pattern in WHERE_VERSIONS_ARE.items()
        if (found := set(re.findall(pattern, (root / name).read_text(), re.M))) != {version}
    ]
    mend = "write the same version there, then `python -m deploy.generate`" if others else ""
    return Finding("version", not others, f"{version}; others: {'; '.join(others) or 'none'}", mend)


def check_changelog(version: str, text: str) -> Finding:
    """Whether the changelog has a dated section of the version, and nothing that is in no version."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    dated = [name for name in sections if re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}", name)]
    if not dated:
        return Finding("changelog", False, f"has no section of {version}", f"add `## {version} - YYYY-MM-DD`")
    if not sections[dated[0]].strip():
        return Finding("changelog", False, f"says nothing of {version}", "say what a user gets and must do")
    if sections.get("Unreleased", "").strip():
        return Finding("changelog", False, "has lines under Unreleased", f"move them to {version}")
    return Finding("changelog", True, dated[0])


def check_tag(version: str, root: Path) -> Finding:
    """Whether everything is committed, and the commit has the tag of the version."""
    changed = _git(root, "status", "--porcelain")
    if changed:
        return Finding("tag", False, f"{len(changed.splitlines())} files are not committed", "commit them")
    tags = _git(root, "tag", "--points-at", "HEAD").split()
    fine = f"v{version}" in tags
    mend = "" if fine else f"`git tag -a v{version}`, as the last step"
    return Finding("tag", fine, f"this commit has {', '.join(tags) or 'no tag'}", mend)


def check_generated() -> Finding:
    """Whether what is made from tables, settings and the chart is as it would be made now."""
    deploy = ROOT / "deploy"
    old = [name for name, text in from_tables_and_settings().items() if (deploy / name).read_text() != text]
    if f"# of the chart {chart_digest(CHART)}\n" not in (deploy / "kustomize/base/freshet.yaml").read_text():
        old.append("kustomize/base/freshet.yaml")
    return Finding("generated files", not old, f"out of date: {', '.join(old) or 'none'}", _regenerate(old))


def _regenerate(old: list[str]) -> str:
    return "`python -m deploy.generate`" if old else ""


def check_locks(root: Path) -> Finding:
    """Whether `make lock` in a copy leaves the locks as they are: they are of this pyproject.toml, extras and all."""
    if shutil.which("uv") is None:
        return Finding("locks", False, "cannot be checked: uv is not installed", "`pip install uv`")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "Makefile", "README.md", "LICENSE", *LOCKS):
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            shutil.copy(root / name, Path(folder) / name)
        done = subprocess.run(["make", "-s", "lock"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            return Finding("locks", False, f"`make lock` fails: {' '.join(lines)[:300]}", "mend the dependencies")
        old = [name for name in LOCKS if _pins(Path(folder) / name) != _pins(root / name)]
    return Finding("locks", not old, f"out of date: {', '.join(old) or 'none'}", "`make lock`" if old else "")


def _pins(lock: Path) -> list[str]:
    """What is installed, without the comments that say why."""
    return [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
