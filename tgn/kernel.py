"""How kernels are compiled, and the arithmetic that they share."""

import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba as nb
import numpy as np
from numba.core.caching import CacheImpl, UserProvidedCacheLocator

from tgn.compiling.addresses import by_address
from tgn.compiling.kernels import Kernel
from tgn.config import HOUR_MS, KERNEL_FOLDERS, KernelConfig

Function = TypeVar("Function", bound=Callable[..., Any])


_PACKAGE = Path(__file__).parent
WITHOUT_KERNELS = frozenset(
    {
        "asking/asked_lists.py", "asking/counterfactual.py", "asking/item_order.py", "asking/similar_items.py",
        "model.py", "reference.py", "serialization.py", "sharing/learned_steps.py",
    }
)  # fmt: skip
"""Modules that call kernels and of which no kernel reads anything: they change, and what is compiled stays."""


def _cache_of_this_source() -> tuple[Path, str]:
    """Where compiled kernels are kept, and what to say of it: a folder named after what this package's sources say.

    numba alone would not notice that a callee in another file changed. The kind of processor is part of the name: what
    was compiled for one may not run on another, and gives other last bits. The first folder that holds every kernel is
    taken, else the first that can be written: NUMBA_CACHE_DIR, the user's cache, the package, those of `tgn.config`,
    a temporary one.
    """
    name = f"kernels-{_digest()}"
    chosen = [Path(nb.config.CACHE_DIR)] if nb.config.CACHE_DIR else []
    usual = [root / name for root in (*chosen, Path.home() / ".cache" / "freshet", _PACKAGE / "__pycache__")]
    fallbacks = [root / name for root in KERNEL_FOLDERS]
    for folder in (*usual, *fallbacks):
        if _is_complete(folder):
            return folder, ""
    for folder in usual:
        if _writable(folder):
            return folder, ""
    for folder in fallbacks:
        if _writable(folder):
            return folder, f"no other folder can be written: compiled kernels are kept in {folder.parent}"
    folder = Path(tempfile.mkdtemp(prefix="freshet-")) / name
    folder.mkdir()
    return folder, "no folder for compiled kernels can be written: each start compiles them; set NUMBA_CACHE_DIR to one"


def _is_complete(folder: Path) -> bool:
    try:
        return (folder / "complete").exists()
    except OSError:  # the home of another user
        return False


def _digest() -> str:
    """What compiled kernels depend on: compilers, kind of processor, every source of this package that they read.

    Kernels call each other and what numba makes of NumPy, which numba's version tells: nothing else (tested).
    """
    compilers = f"{nb.__version__} {llvmlite.__version__} {np.__version__} {sys.implementation.cache_tag}"
    digest = hashlib.blake2b(f"{compilers} {processor()}".encode(), digest_size=8)
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE).as_posix()
        if name not in WITHOUT_KERNELS:
            digest.update(f" {name} ".encode() + path.read_bytes())
    return digest.hexdigest()


def processor() -> str:
    """What kernels are compiled for: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES where they are set, else this machine."""
    name, features = nb.config.CPU_NAME, nb.config.CPU_FEATURES
    host = llvmlite.binding.get_host_cpu_features().flatten() if features is None else features
    return f"{name or llvmlite.binding.get_host_cpu_name()} {host}"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:  # a read-only installation
        return False


CACHE, CACHE_NOTE = _cache_of_this_source()


class KernelCache(UserProvidedCacheLocator):
    """Tells numba where the kernels of this package are kept: by content, so that a copy of the sources finds them."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)  # type: ignore[no-untyped-call]
        self._cache_path = str(CACHE)

    def get_disambiguator(self) -> str:
        """Files of one name in two folders of the package are told apart."""
        return f"{Path(self._py_file).parent.name}-{self._lineno}"

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """None for functions of other packages: numba then goes on to its own locators."""
        return cls(py_func, py_file) if Path(py_file).is_relative_to(_PACKAGE) else None


CacheImpl._locator_classes.insert(0, KernelCache)


def kernel(function: Function) -> Function:
    """Compiles a function once and caches it; it holds no lock while it runs.

    No reference counts (`_nrt=False`): kernels pass dozens of arrays around and counting them cost ten times the work,
    so they cannot allocate. No `nnan`, `ninf` in fastmath: −inf marks what must never be listed.
    """
    fastmath = {"nsz", "arcp", "contract", "afn", "reassoc"}
    options = {"nopython": True, "nogil": True, "fastmath": fastmath, "error_model": "numpy", "_nrt": False}
    return cast(Function, Kernel(function, options | {"no_cfunc_wrapper": True}))


by_address(KernelConfig)  # whose module knows no numba


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
