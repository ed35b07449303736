"""The engine uses kernels as the cache gives them: a process that compiles may give other last bits."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib, pkgutil
import numpy as np
import tgn
from streamer.engine import Engine
from streamer.settings import Settings
engine = Engine(Settings.load())
from streamer.kernels import use_every_kernel
use_every_kernel()
modules = [importlib.import_module(f"tgn.{module.name}") for module in pkgutil.iter_modules(tgn.__path__)]
kernels = {f for module in modules for f in vars(module).values() if hasattr(f, "stats") and hasattr(f, "py_func")}
compiled = [f.py_func.__qualname__ for f in kernels if f.stats.cache_misses]
assert not compiled, compiled
assert any(f.stats.cache_hits for f in kernels)
"""


def test_no_kernel_is_compiled_in_the_process_that_uses_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, cwd=tmp_path, timeout=280)
