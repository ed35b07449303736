"""How kernels are compiled, and the arithmetic that they share."""

import numba as nb
import numpy as np

kernel = nb.njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy", _nrt=False)
"""Compiled once and cached; holds no lock. No `nnan`/`ninf`: −inf marks what must never be listed."""


TINY = np.float32(1e-30)
LN2 = np.float32(0.6931472)


@kernel
def decay(elapsed_ms, scale_ms):  # type: ignore[no-untyped-def]
    """exp(−Δt/τ); the one formula for forgetting. A negative Δt counts as 0."""
    return np.exp(-max(elapsed_ms, 0) / scale_ms)


@kernel
def flushed(x):  # type: ignore[no-untyped-def]
    """x, or 0 where it has decayed to nothing: arithmetic on subnormal floats is a hundred times slower."""
    return x if abs(x) > TINY else np.float32(0)


@kernel
def fast_log(x):  # type: ignore[no-untyped-def]
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
