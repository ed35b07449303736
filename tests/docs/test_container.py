"""`freshet run` where sources, HOME and all but a state folder are read-only, as in deploy/compose.yaml.

No container engine is needed: the folders are bind-mounted read-only in a mount namespace of the test's own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.cli.main import main
from tests.conftest import missing
from tests.waiting import scaled
from tgn.kernel import CACHE

ROOT = Path(__file__).parents[2]
EVENTS = "user_id,item_id,timestamp\n" + "".join(f"u{n % 5},i{n % 7},{n * 1000}\n" for n in range(50))


def can_mount() -> bool:
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True) if shutil.which("unshare") else None
    return tried is not None and tried.returncode == 0


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder with a log of fifty interactions, and an empty HOME."""
    if not can_mount():
        missing("folders cannot be mounted read-only here (unshare -m, as root)")
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "home").mkdir()
    assert main(["topics", "create", "--partitions", "1", "--log", str(tmp_path / "log")]) == 0
    assert main(["produce", str(tmp_path / "events.csv"), "--log", str(tmp_path / "log")]) == 0
    return tmp_path


def inside(box: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a copy of the sources that is read-only, as HOME is."""
    source = box / "source"
    for package in ("tgn", "streamer", "consumers", "deploy"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    kept = [source, box / "home", *([box / "image"] if (box / "image").exists() else [])]
    script = " && ".join(f"mount --bind {p} {p} && mount -o remount,bind,ro {p}" for p in kept)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(box / "home"), "PYTHONPATH": str(source), **environment}
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{script} && exec "$@"', "sh", sys.executable, *command],
        env=env, cwd=box, capture_output=True, text=True, timeout=scaled(280),
    )  # fmt: skip


def run(box: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    flags = ("--log", str(box / "log"), "--state", str(box / "state"), "--exit-at-end")
    return inside(box, "-m", "streamer", "run", *flags, **environment)


def test_kernels_of_the_image_are_found_on_a_read_only_root(box: Path) -> None:
    shutil.copytree(CACHE, box / "image" / CACHE.name)
    done = run(box, NUMBA_CACHE_DIR=str(box / "image"))
    assert done.returncode == 0, done.stderr
    assert "compiling" not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_image_they_are_found_in_the_state_folder(box: Path) -> None:
    shutil.copytree(CACHE, box / "state" / "kernels" / CACHE.name)
    done = run(box)
    assert done.returncode == 0, done.stderr
    assert "compiling" not in done.stderr


ONE_KERNEL = """
from pathlib import Path
from tgn.config import KERNEL_FOLDERS
KERNEL_FOLDERS += [Path(folder) for folder in {folders}]
from tgn.kernel import CACHE, CACHE_NOTE, decay
assert decay(0, 1.0) == 1.0
assert list(CACHE.glob("*.nbi")), CACHE
print(CACHE.parent, CACHE_NOTE)
"""


def test_kernels_go_to_the_state_folder_where_nothing_else_can_be_written_and_it_is_said(box: Path) -> None:
    done = inside(box, "-c", ONE_KERNEL.format(folders=[str(box / "state" / "kernels")]))
    assert done.returncode == 0, done.stderr
    kernels = box / "state" / "kernels"
    assert done.stdout == f"{kernels} no other folder can be written: compiled kernels are kept in {kernels}\n"


def test_kernels_go_to_a_temporary_folder_where_there_is_no_state_folder(box: Path) -> None:
    done = inside(box, "-c", ONE_KERNEL.format(folders=[]))
    assert done.returncode == 0, done.stderr
    assert "no folder for compiled kernels can be written: each start compiles them" in done.stdout


def test_what_was_compiled_for_another_processor_is_not_taken(box: Path) -> None:
    where = "from tgn.kernel import CACHE; print(CACHE.name)"
    names = {
        inside_once(box, where, **target)
        for target in ({}, {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_CPU_NAME": "generic"})
    }
    assert len(names) == 3


def inside_once(box: Path, script: str, **environment: str) -> str:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(box / "home"), "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return done.stdout
