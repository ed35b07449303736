"""Examples in docstrings run: they are what a reader tries first."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [file for package in ("streamer", "consumers", "tgn") for file in sorted((ROOT / package).rglob("*.py"))]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES if "    >>> " in file.read_text("utf-8")
]


def test_what_users_call_has_examples() -> None:
    assert {"consumers.files.interactions", "streamer.evaluation.list_scores"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("settings")  # in a folder of its own, whatever the environment says
def test_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
