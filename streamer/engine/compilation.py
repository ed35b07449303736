"""Kernels are compiled in processes of their own, and only ever used as the cache gives them.

Those that every stream needs come first; the others are compiled when one of them is called, or all at once where
nothing may wait later. What is compiled where it is used would hold up the thread that takes events, in silence.
"""

import fcntl
import gc
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable
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
from tgn.prequential import prequential, query, relist
from tgn.repair import History
from tgn.retrieval import restore
from tgn.seen_pairs import rehash
from tgn.serialization import all_pages, load_pages
from tgn.successors import to_now
from tgn.top_k import top_k

TAKING: tuple[Any, ...] = (prequential, introduce, show_item, hide_item, delete_item, rehash, restore)
"""What Python calls to take events and changes of items, and to open a checkpoint."""
OTHERS: tuple[Any, ...] = (
    query, relist, recall, to_now, cosines, top_k, *(k for k in vars(repair).values() if isinstance(k, Kernel)),
)  # fmt: skip
"""What Python calls for the rest: a list at any time, and undo."""
EMITTING = 0.5  # seconds of optimising and emitting a kernel, for one of translating it
LINE_EVERY_S = 5.0


def ensure_compiled(everything: bool = False) -> None:
    """Compiles the kernels that taking events needs, once for each version of their source; says so on standard error.

    Other processes that need them meanwhile wait for the one that compiles.

    Args:
        everything: the others too, so that nothing has to wait for them later.
    """
    if _compile_others not in BEFORE_FIRST_CALL:
        BEFORE_FIRST_CALL.append(_compile_others)
    stages = STAGES if everything else ("taking",)
    if not _missing(stages):
        return
    with ExitStack() as locks:
        for stage in stages:
            fcntl.flock(locks.enter_context((CACHE / f"{stage}.lock").open("w")), fcntl.LOCK_EX)
        missing = _missing(stages)
        if not missing:
            return
        if CACHE_NOTE:
            print(f"freshet: {CACHE_NOTE}", file=sys.stderr)
        print("freshet: compiling the kernels, once for this version …", file=sys.stderr, flush=True)
        own = os.environ | {"NUMBA_CACHE_DIR": str(CACHE.parent)}
        command = [sys.executable, "-m", "streamer.engine.compilation"]
        _wait_for(subprocess.Popen([*command, stage], env=own, stdout=subprocess.PIPE, text=True) for stage in missing)
        for stage in missing:
            (CACHE / stage).touch()
        if not _missing(STAGES):
            (CACHE / "complete").touch()


def _missing(stages: Iterable[str]) -> list[str]:
    return [stage for stage in stages if not (CACHE / stage).exists() and not (CACHE / "complete").exists()]


def _compile_others(kernel: Kernel) -> None:
    """Before Python calls a kernel for the first time in this process."""
    if kernel not in TAKING:
        ensure_compiled(everything=True)


def _wait_for(started: Iterable["subprocess.Popen[str]"], line_every_s: float = LINE_EVERY_S) -> None:
    """Says how far the processes are until they end. Raises CalledProcessError where one fails."""
    children = list(started)
    far = dict.fromkeys(children, (0, 0, 0.0))  # kernels done, of how many, seconds left
    shown, terminal = time.monotonic(), sys.stderr.isatty()
    with selectors.DefaultSelector() as reader, ExitStack() as running:
        for child in children:
            assert child.stdout is not None
            running.enter_context(child)
            running.callback(child.kill)  # where this process is told to stop meanwhile
            reader.register(child.stdout, selectors.EVENT_READ, child)
        while reader.get_map():
            for key, _ in reader.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    reader.unregister(key.fileobj)
                    continue
                done, total, left_s = line.split()
                far[key.data] = int(done), int(total), float(left_s)
            if terminal or time.monotonic() > shown + line_every_s:
                done, total = (sum(child[n] for child in far.values()) for n in (0, 1))
                text = f"freshet: kernel {done} of {total}, {max(child[2] for child in far.values()):.0f} s left"
                print(text, end="   \r" if terminal else "\n", file=sys.stderr, flush=True)
                shown = time.monotonic()
        for child in children:
            if child.wait():
                raise subprocess.CalledProcessError(child.returncode, child.args)


class _Progress(compile_events.Listener):
    """Prints a line for each kernel that is ready: how many are, of how many, and how many seconds are left."""

    def __init__(self, called: Iterable[Kernel]) -> None:
        self._within = {kernel: kernels_within(kernel) for kernel in called}
        self._left = {kernel.py_func for within in self._within.values() for kernel in within}
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
        print(self._total - len(self._left), self._total, max(left_s, 0), flush=True)


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


STAGES = {"taking": (TAKING, use_taking), "others": (OTHERS, use_others)}


if __name__ == "__main__":  # in a process of its own
    gc.disable()  # a process that ends soon
    called, use = STAGES[sys.argv[1]]
    compile_events.register("numba:compile", _Progress(called))  # type: ignore[no-untyped-call]
    use()
