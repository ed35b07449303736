"""What counting feedback takes of memory, however long it goes on."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

from consumers.feedback.kept_rows import MICRO, KeptPlace
from consumers.feedback.totals import Totals
from tests.conftest import missing

ROOT, HOUR_MS = Path(__file__).parents[3], 3_600_000
LARGE_BLOCKS = """
import ctypes
from pathlib import Path
from consumers.feedback.join_state import JoinState

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    raise SystemExit(3)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Heap, ctypes.c_void_p, [ctypes.c_void_p]
JoinState(Path("rows"), "rules", 1).close()
libc.free(libc.malloc(8 << 20))  # glibc left to itself takes blocks of this size from the heap from now on
before, kept = libc.mallinfo2(), [libc.malloc(1 << 20) for _ in range(8)]
after = libc.mallinfo2()
print(after.hblkhd - before.hblkhd, after.arena - before.arena)
"""


def test_windows_that_are_over_leave_nothing_behind() -> None:
    totals, places = Totals(HOUR_MS), [KeptPlace("home", "none", place, "taste", "r") for place in range(1, 11)]

    def hours(first: int, last: int) -> None:
        for hour in range(first, last):
            for place in places:
                totals.add(hour * HOUR_MS, place, "clicks", MICRO)
            totals.forget((hour - 24) * HOUR_MS)
            totals.changed.clear()

    hours(0, 100)
    tracemalloc.start()
    try:
        hours(100, 600)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_large_blocks_go_back_to_the_system(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE_BLOCKS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode == 3:
        missing("an allocator that says what it holds: glibc 2.33 or later")
    assert done.returncode == 0, done.stderr
    of_their_own, of_the_heap = map(int, done.stdout.split())
    assert of_their_own >= 8 << 20
    assert of_the_heap < 1 << 20
