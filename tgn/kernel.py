"""How kernels are compiled, and the arithmetic that they share."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba as nb
import numpy as np

from tgn.config import HOUR_MS

Function = TypeVar("Function", bound=Callable[..., Any])


def _cache_of_this_source() -> Path | None:
    """Where compiled kernels are kept: a folder for all that numba goes by, and for this package's every file.

    numba does not notice when a callee changed. It does notice where a source lies and when it was written, and
    compiles again: then this is another folder, which is not complete.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.resolve()} {path.stat().st_mtime_ns} ".encode() + path.read_bytes())
    for root in (Path(__file__).parent / "__pycache__", Path.home() / ".cache" / "freshet"):
        folder = root / f"kernels-{digest.hexdigest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # a read-only installation
            continue
        nb.config.CACHE_DIR = str(folder)
        return folder
    return None


CACHE = _cache_of_this_source()


def kernel(function: Function) -> Function:
    """Compiles a function once and caches it; it holds no lock while it runs.

    No reference counts (`_nrt=False`): kernels pass dozens of arrays around and counting them cost ten times the work,
    so they cannot allocate. No `nnan`, `ninf` in fastmath: −inf marks what must never be listed.
    """
    fastmath = {"nsz", "arcp", "contract", "afn", "reassoc"}
    compiled = nb.njit(cache=True, nogil=True, fastmath=fastmath, error_model="numpy", _nrt=False)(function)
    return cast(Function, compiled)


def plain(*arrays: Any) -> Any:
    """The arrays as kernels are compiled for them: contiguous and writable, copied where one is a view or read-only.

    Any other layout would be one more compilation, and its floats may differ in the last bits.
    """
    return [np.require(array, requirements=("C", "W")) for array in arrays]


TINY = np.float32(1e-30)
LN2 = np.float32(0.6931472)


@kernel
def decay(elapsed_ms: float, scale_ms: float) -> float:
    """exp(−Δt/τ); the one formula for forgetting. A negative Δt counts as 0."""
    return np.exp(-max(elapsed_ms, 0) / scale_ms)


@kernel
def hour_of_day(t: int) -> int:
    """0 … 23, UTC, of epoch ms."""
    return (t // HOUR_MS) % 24


@kernel
def flushed(x: float) -> float:
    """x, or 0 where it has decayed to nothing: arithmetic on subnormal floats is a hundred times slower."""
    return x if abs(x) > TINY else np.float32(0)


@kernel
def fast_log(x: float) -> float:
    """Natural logarithm of a positive float32 to 1e-4, from its exponent and a cubic in its mantissa.

    Vectorises, and gives the same bits on every machine, which libm's does not.
    """
    bits = np.float32(x).view(np.int32)
    exponent = np.float32((bits >> 23) - 127)
    m = np.int32((bits & 0x7FFFFF) | 0x3F800000).view(np.float32)  # in [1, 2)
    p = np.float32(-2.153620718) + m * (
        np.float32(3.047884161) + m * (np.float32(-1.051875031) + m * np.float32(0.158248766))
    )
    return (exponent + p) * LN2
