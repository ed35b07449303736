"""Commands use kernels as the cache gives them: what a process compiles for itself may give other last bits."""

import subprocess
import sys
from pathlib import Path

from tests.waiting import scaled

ROOT = Path(__file__).parents[3]
SCRIPT = """
import importlib, pkgutil, sys
import pyarrow.parquet as pq
import tgn
from streamer.cli.main import main
from tests.streamer.state.test_pending_repairs import World, event
from tests.worlds import checkerboard, table_of

stream = sys.argv[1]
pq.write_table(table_of(checkerboard(events=2_000)).drop(["reason"]), stream)
for flags in (["replay", stream], ["replay", stream, "--stale", "20"], ["explain", "u1", "--file", stream, "--json"]):
    assert main(flags) == 0
world = World()
world.take([event(n % 5, n % 7, n, str(n)) for n in range(100)])
world.take([event(n % 5, n % 7, n, str(n), retract=True) for n in range(3)], repair=True)
world.checkpoint(restart=True)
world.take([event(1, 1, 1000)])

modules = [importlib.import_module(f"tgn.{module.name}") for module in pkgutil.iter_modules(tgn.__path__)]
kernels = {f for module in modules for f in vars(module).values() if hasattr(f, "stats") and hasattr(f, "py_func")}
compiled = [f.py_func.__qualname__ for f in kernels if f.stats.cache_misses]
assert not compiled, compiled
assert any(f.stats.cache_hits for f in kernels)
"""


def test_no_kernel_is_compiled_in_the_process_that_uses_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "s.parquet")], check=True, cwd=ROOT, timeout=scaled(280)
    )
