"""No kernel reads or writes outside its arrays: numba checks that where it is asked to, which costs half the speed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_stay_within_their_arrays(tmp_path: Path) -> None:
    """What lies behind an array is another one's, or nothing's: lists may be right for years, then be NaN."""
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", str(HERE)]
    ran = subprocess.run(command, env=os.environ | checked, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:]
