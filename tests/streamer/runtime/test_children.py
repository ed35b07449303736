"""Processes that a process keeps: what they are given before their program begins."""

import os
import sys
from pathlib import Path

import pytest

from streamer.runtime.children import NICENESS, Child, Start
from tests.waiting import until

_TELLS = """
import os, sys, time
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.nice(0)} {os.getsid(0)} {os.getpgid(0) == os.getpid()}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""


@pytest.mark.parametrize("is_patient", [False, True])
def test_a_patient_child_yields_the_processor(tmp_path: Path, is_patient: bool) -> None:
    """Of the same session, for Linux may share the processor out between sessions first, and in a group of its own."""
    file = tmp_path / "told"
    child = Child(
        "it", lambda: Start([sys.executable, "-c", _TELLS, str(file)], "http://127.0.0.1:9"), {}, is_patient=is_patient
    )
    child.check()
    try:
        until(file.exists)
    finally:
        child.end()
    niceness, session, is_group = file.read_text().split()
    mine = os.nice(0)
    assert int(niceness) == min(19, mine + NICENESS if is_patient else mine)
    assert (int(session), is_group) == (os.getsid(0), "True")
