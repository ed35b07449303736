"""Processes that a process keeps: what they are given before their program begins."""

import os
import sys
from pathlib import Path

import pytest

from streamer.runtime.children import NICENESS, Child, Start
from tests.waiting import until

_TELLS = """
import os, sys, time
group = "/proc/self/autogroup"
told = f"{os.nice(0)} {open(group).read().split()[-1] if os.path.exists(group) else ''}"
with open(sys.argv[1] + ".part", "w") as file:
    file.write(told)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""


@pytest.mark.parametrize("is_patient", [False, True])
def test_a_patient_child_yields_the_processor(tmp_path: Path, is_patient: bool) -> None:
    """To other sessions too, where the kernel shares the processor out between these."""
    file = tmp_path / "told"
    child = Child(
        "it", lambda: Start([sys.executable, "-c", _TELLS, str(file)], "http://127.0.0.1:9"), {}, is_patient=is_patient
    )
    child.check()
    try:
        until(file.exists)
    finally:
        child.end()
    niceness, *of_session = file.read_text().split()
    mine = os.nice(0)
    assert int(niceness) == min(19, mine + NICENESS if is_patient else mine)
    if of_session:
        assert int(of_session[0]) == (NICENESS if is_patient else 0)
