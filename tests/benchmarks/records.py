"""Measured parts as JSON files, each with the commit, the machine and the time of its measurement."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]

Record = dict[str, Any]


def save(name: str, values: Record) -> Record:
    """Writes one part; a later measurement of the same part replaces it."""
    FOLDER.mkdir(exist_ok=True)
    record = {**values, "commit": commit(), "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def load(name: str) -> Record | None:
    """A part, or None where it has not been measured."""
    file = FOLDER / f"{name}.json"
    record: Record | None = json.loads(file.read_text()) if file.is_file() else None
    return record


def load_all() -> list[Record]:
    """Every part there is."""
    return [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]


def commit() -> str:
    """Short id of the commit; with a + where the working tree differs from it."""
    short = _git("rev-parse", "--short", "HEAD")
    return short + "+" * bool(_git("status", "--porcelain", "--untracked-files=no")) if short else "no git"


def machine() -> str:
    """Processor and cores."""
    models = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return f"{models[0].split(':')[1].strip() if models else 'unknown processor'}, {os.cpu_count()} cores"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()
