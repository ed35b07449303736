"""Commands use kernels as the cache gives them: what a process compiles for itself may give other last bits."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from numba.core.event import Event, EventStatus

from streamer.engine import compilation
from streamer.engine.compilation import OTHERS, STAGES, TAKING, _Progress, _wait_for, ensure_compiled
from tests.waiting import scaled
from tgn.compiling.kernels import Kernel, kernels_within

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


def test_how_far_it_is_and_which_stages_are_ready(capsys: pytest.CaptureFixture[str]) -> None:
    ready = list[str]()
    lines = ("taking 2 40 14.0", "taking", "others 3 20 33.0", "others")
    _wait_for(_child(*lines), ready.append, line_every_s=0)
    said = capsys.readouterr().err.splitlines()
    assert said == ["freshet: kernel 2 of 40, 14 s left", "freshet: kernel 3 of 20 of the others, 33 s left"]
    assert ready == ["taking", "others"]


def test_a_process_that_fails_is_an_error_and_what_was_ready_before_is() -> None:
    ready = list[str]()
    with pytest.raises(subprocess.CalledProcessError):
        _wait_for(_child("taking 40 40 0.0", "taking", "others 1 20 9.0", code=3), ready.append)
    assert ready == ["taking"]


def test_progress_ends_with_every_kernel_and_nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    translated = set[Kernel]()
    for stage, (called, _) in STAGES.items():
        within = {kernel for one in called for kernel in kernels_within(one)}
        progress = _Progress(stage, translated)
        new = [*(kernel.of_kernels for kernel in within - translated), *called]
        for kernel in new:
            progress.on_end(Event("numba:compile", EventStatus.END, {"dispatcher": kernel}))
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        total = str(len(within - translated | set(called)))
        assert lines[-1][:3] == [stage, total, total]
        assert float(lines[-1][3]) == 0
        assert all(float(left_s) > 0 for *_, left_s in lines[:-1])
        translated |= within


def test_a_stage_can_be_used_while_the_next_one_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = tmp_path / "go on"
    script = f"""
import pathlib, sys, time
for stage in sys.argv[1:]:
    while stage == "others" and not pathlib.Path({str(go_on)!r}).exists():
        time.sleep(0.01)
    print(stage, flush=True)
"""
    monkeypatch.setattr(compilation, "CACHE", tmp_path)
    monkeypatch.setattr(compilation, "COMMAND", [sys.executable, "-c", script])
    called = threading.Event()
    ensure_compiled(then=called.set)
    assert (tmp_path / "taking").exists()
    assert not (tmp_path / "others").exists()
    assert not called.is_set()
    go_on.touch()
    assert called.wait(scaled(30))
    assert (tmp_path / "complete").exists()


def test_no_kernel_is_compiled_for_two_stages() -> None:
    assert not set(TAKING) & set(OTHERS)


def test_it_ends_without_a_word_where_nobody_reads_how_far_it_is(tmp_path: Path) -> None:
    """As when a demo is ended while it compiles."""
    elsewhere = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-m", "streamer.engine.compilation", "taking"]
    with subprocess.Popen(
        command, cwd=ROOT, env=elsewhere | {"HOME": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()  # from here on it writes into nothing
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE
