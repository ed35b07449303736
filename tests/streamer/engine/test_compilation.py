"""Commands use kernels as the cache gives them: what a process compiles for itself may give other last bits."""

import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.event import Event, EventStatus

from streamer.engine.compilation import OTHERS, STAGES, TAKING, _Progress, _wait_for
from tests.waiting import scaled
from tgn.compiling.kernels import kernels_within

ROOT = Path(__file__).parents[3]
SCRIPT = """
import importlib, pkgutil, sys
import pyarrow.parquet as pq
import tgn
from streamer.cli.main import main
from streamer.engine.compilation import TAKING
from tgn.compiling.kernels import Kernel
from tests.streamer.state.test_pending_repairs import World, event
from tests.worlds import checkerboard, table_of

stream = sys.argv[1]
pq.write_table(table_of(checkerboard(events=2_000)).drop(["reason"]), stream)
for flags in (["replay", stream], ["replay", stream, "--stale", "20"]):
    assert main(flags) == 0
modules = [importlib.import_module(f"tgn.{module.name}") for module in pkgutil.iter_modules(tgn.__path__)]
kernels = {f for module in modules for f in vars(module).values() if isinstance(f, Kernel)}
assert {f for f in kernels if f.overloads} <= set(TAKING)  # a first replay compiles no more than it uses

assert main(["explain", "u1", "--file", stream, "--json"]) == 0
world = World()
world.take([event(n % 5, n % 7, n, str(n)) for n in range(100)])
world.take([event(n % 5, n % 7, n, str(n), retract=True) for n in range(3)], repair=True)
world.checkpoint(restart=True)
world.take([event(1, 1, 1000)])

compiled = [f.py_func.__qualname__ for f in kernels if f.stats.cache_misses]
assert not compiled, compiled
assert any(f.stats.cache_hits for f in kernels)
"""


def test_no_kernel_is_compiled_in_the_process_that_uses_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "s.parquet")], check=True, cwd=ROOT, timeout=scaled(280)
    )


def _child(*lines: str, code: int = 0) -> "subprocess.Popen[str]":
    script = f"import sys; sys.stdout.writelines({[line + chr(10) for line in lines]}); sys.exit({code})"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_how_far_it_is_of_all_processes_together(capsys: pytest.CaptureFixture[str]) -> None:
    _wait_for([_child("1 40 15.2", "2 40 14.0"), _child("3 20 33.0")], line_every_s=0)
    assert capsys.readouterr().err.splitlines()[-1] == "freshet: kernel 5 of 60, 33 s left"


def test_a_process_that_fails_is_an_error_though_another_does_not() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        _wait_for([_child("1 40 15.2"), _child(code=3)])


@pytest.mark.parametrize("stage", STAGES)
def test_progress_ends_with_every_kernel_and_nothing_left(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    called, _ = STAGES[stage]
    progress = _Progress(called)
    within = {kernel for one in called for kernel in kernels_within(one)}
    for kernel in [*(kernel.of_kernels for kernel in within), *called]:
        progress.on_end(Event("numba:compile", EventStatus.END, {"dispatcher": kernel}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-1][:2] == [str(len(within))] * 2
    assert float(lines[-1][2]) == 0
    assert all(float(left_s) > 0 for _, _, left_s in lines[:-1])


def test_no_kernel_is_compiled_for_two_stages() -> None:
    assert not set(TAKING) & set(OTHERS)
