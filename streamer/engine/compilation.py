"""Kernels are compiled in a process of their own, and only ever used as the cache gives them.

Those that every stream needs come first; the others are compiled when one of them is called, or all at once where
nothing may wait later. What is compiled where it is used would hold up the thread that takes events, in silence.
"""

import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numba.core import event as compile_events

from tgn import repair
from tgn.asking.asked_lists import cosines_to, first_by_id
from tgn.compiling.kernels import BEFORE_FIRST_CALL, Kernel, kernels_within
from tgn.config import ModelConfig
from tgn.graph import no_contexts
from tgn.kernel import CACHE, CACHE_NOTE
from tgn.memory import recall
from tgn.model import Model
from tgn.observe import delete_item, hide_item, introduce, show_item
from tgn.outside_vectors import SIZE, cosines
from tgn.prequential import observe_batch, prequential, query, relist
from tgn.repair import History
from tgn.retrieval import restore
from tgn.seen_pairs import rehash
from tgn.serialization import all_pages, load_pages
from tgn.sharing.added_rows import add_step, mark_moved, take_rows
from tgn.sharing.learned_steps import add, begin, take_step
from tgn.successors import to_now
from tgn.top_k import top_k

TAKING: tuple[Any, ...] = (prequential, introduce, show_item, hide_item, delete_item, rehash, restore)
"""What Python calls to take events and changes of items, and to open a checkpoint."""
OTHERS: tuple[Any, ...] = (
    observe_batch, mark_moved, take_rows, add_step, query, relist, recall, to_now, cosines, top_k,
    *(k for k in vars(repair).values() if isinstance(k, Kernel)),
)  # fmt: skip
"""What Python calls for the rest: other workers' interactions and steps, a list at any time, and undo."""
EMITTING = 0.5  # seconds of optimising and emitting a kernel, for one of translating it
LINE_EVERY_S = 5.0
COMMAND = [sys.executable, "-m", "streamer.engine.compilation"]


def ensure_compiled(everything: bool = False, then: Callable[[], None] | None = None) -> None:
    """Compiles the kernels that taking events needs, once for each version of their source; says so on standard error.

    Other processes and threads that need them meanwhile wait for the one that compiles.

    Args:
        everything: the others too, so that nothing has to wait for them later.
        then: the others too, but this does not wait for them: `then` is called in another thread when they are there.
    """
    if _compile_others not in BEFORE_FIRST_CALL:
        BEFORE_FIRST_CALL.append(_compile_others)
    if then is not None:
        begun = threading.Event()
        threading.Thread(target=_compile_and_call, args=(begun, then), name="kernels", daemon=True).start()
        begun.wait()
    _compile(tuple(STAGES) if everything else ("taking",))


def _compile_and_call(begun: threading.Event, then: Callable[[], None]) -> None:
    try:
        _compile(tuple(STAGES), begun.set)
    finally:
        begun.set()
    then()


def _compile(stages: Sequence[str], begun: Callable[[], None] = lambda: None) -> None:
    """Compiles what is missing of these stages, all in one process: what they share is translated once.

    1. Locks each stage, then says that it has begun. 2. Compiles one stage after the other. 3. Marks a stage and
    unlocks it as soon as it is there.
    """
    if not _missing(stages):
        return
    with ExitStack() as all_locks:
        locks = {stage: all_locks.enter_context(ExitStack()) for stage in stages}
        for stage, lock in locks.items():
            fcntl.flock(lock.enter_context((CACHE / f"{stage}.lock").open("w")), fcntl.LOCK_EX)
        missing = _missing(stages)
        if not missing:
            return
        begun()
        if CACHE_NOTE:
            print(f"freshet: {CACHE_NOTE}", file=sys.stderr)
        which = "the kernels" if "taking" in missing else "the other kernels, which the demo does without"
        print(f"freshet: compiling {which}, once for this version …", file=sys.stderr, flush=True)
        own = os.environ | {"NUMBA_CACHE_DIR": str(CACHE.parent)}

        def ready(stage: str) -> None:
            (CACHE / stage).touch()
            if not _missing(STAGES):
                (CACHE / "complete").touch()
            locks[stage].close()

        _wait_for(subprocess.Popen([*COMMAND, *missing], env=own, stdout=subprocess.PIPE, text=True), ready)


def _missing(stages: Iterable[str]) -> list[str]:
    return [stage for stage in stages if not (CACHE / stage).exists() and not (CACHE / "complete").exists()]


def _compile_others(kernel: Kernel) -> None:
    """Before Python calls a kernel for the first time in this process."""
    if kernel not in TAKING:
        ensure_compiled(everything=True)


def _wait_for(child: "subprocess.Popen[str]", ready: Callable[[str], None], line_every_s: float = LINE_EVERY_S) -> None:
    """Says how far the process is until it ends, and what is ready. Raises CalledProcessError where it fails."""
    shown, terminal = time.monotonic(), sys.stderr.isatty()
    assert child.stdout is not None
    with child, ExitStack() as running:
        running.callback(child.kill)  # where this process is told to stop meanwhile
        for line in child.stdout:
            stage, *far = line.split()
            if not far:
                ready(stage)
            elif terminal or time.monotonic() > shown + line_every_s:
                done, total, left_s = far
                of = "" if stage == "taking" else f" of the {stage}"
                text = f"freshet: kernel {done} of {total}{of}, {float(left_s):.0f} s left"
                print(text, end="   \r" if terminal else "\n", file=sys.stderr, flush=True)
                shown = time.monotonic()
        if child.wait():
            raise subprocess.CalledProcessError(child.returncode, child.args)


class _Progress(compile_events.Listener):
    """Prints a line for each kernel of a stage that is ready: the stage, how many are, of how many, and seconds left.

    Args:
        stage: its name.
        translated: the kernels that are already, for a stage before this one.
    """

    def __init__(self, stage: str, translated: Container[Kernel] = ()) -> None:
        self._stage, (called, _) = stage, STAGES[stage]
        self._within = {kernel: kernels_within(kernel) for kernel in called}
        of_stage = {kernel for within in self._within.values() for kernel in within}
        self._left = {kernel.py_func for kernel in of_stage if kernel not in translated or kernel in self._within}
        self._total = len(self._left)
        self._work = self._total + sum(EMITTING * len(within) for within in self._within.values())
        self._done, self._started = 0.0, time.monotonic()

    def on_start(self, event: Any) -> None:
        """A kernel is begun."""

    def on_end(self, event: Any) -> None:
        """A kernel is ready: for Python to call, or for others to have within."""
        kernel = event.data["dispatcher"]
        if isinstance(kernel, Kernel):
            self._done += EMITTING * len(self._within.get(kernel, ()))
        if kernel.py_func in self._left:
            self._left.remove(kernel.py_func)
            self._done += 1
        left_s = (time.monotonic() - self._started) * (self._work / max(self._done, 1) - 1)
        print(self._stage, self._total - len(self._left), self._total, max(left_s, 0), flush=True)


def _some_events(model: Model) -> tuple[Any, ...]:
    """n, and n interactions: enough for the set of pairs to be built anew."""
    n = 5_000
    user = np.array(model.users.encode([str(x % 50) for x in range(n)]), np.int32)
    item = np.array(model.items.encode([str(x) for x in range(n)]), np.int32)
    return n, user, item, np.arange(n, dtype=np.int64), np.ones(n, np.float32), no_contexts(n)


def use_taking() -> None:
    """Calls each of `TAKING`, as the engine does."""
    model = Model(ModelConfig())
    n, user, item, t, liked, context = _some_events(model)
    ones = np.ones(n, np.uint8)
    model.take(user, item, t, liked, context, k=2, score=ones, learn=ones, publish=ones)
    model.introduce(model.items.encode(["new"])[0], n, np.ones(SIZE, np.float32))
    model.introduce(model.items.encode(["new"])[0], n, np.ones(SIZE, np.float32), hidden=True)
    model.delete(0)
    load_pages(Model(ModelConfig()), all_pages(model).items())


def use_others() -> None:
    """Calls each other kernel that is called from Python, as the engine does."""
    model = Model(ModelConfig())
    n, user, item, t, liked, context = _some_events(model)
    unshared = begin(model)
    add(model, unshared, [(take_step(model, unshared), 1.0)])
    model.observe(user, item, t, liked, context)
    model.recommend(0, n, 2)
    wanted = np.ones(len(model.graph.items.events), np.uint8)
    gone = user[:2] * 0, item[:2]
    model.add_pairs(*gone)
    model.repair(user[:1], gone, wanted, History(user=user, item=item, t=t, weight=liked, context=context))
    model.next_to_rebuild(wanted, 0, np.ones(len(model.graph.users.events), np.int64), n)
    model.relist(model.readers(wanted)[:1], n, 2)
    cosines_to(model.config, model.content, 1, item)
    first_by_id(item, 2, model.items.names)
    to_now(model.graph.co.time, 0, n, 1.0)


STAGES: dict[str, tuple[tuple[Any, ...], Callable[[], None]]] = {
    "taking": (TAKING, use_taking), "others": (OTHERS, use_others),
}  # fmt: skip


def compile_stages(stages: Iterable[str]) -> None:
    """Compiles one stage after the other in this process; says how far it is, and what is ready, on standard output."""
    translated = set[Kernel]()
    for stage in stages:
        called, use = STAGES[stage]
        progress = _Progress(stage, translated)
        with compile_events.install_listener("numba:compile", progress):
            use()
        translated |= {kernel for one in called for kernel in kernels_within(one)}
        print(stage, flush=True)


if __name__ == "__main__":  # in a process of its own
    gc.disable()  # a process that ends soon
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # who has asked for it has ended, and so does this, without a word
    compile_stages(sys.argv[1:])
