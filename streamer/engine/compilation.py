"""Kernels are compiled in a process of their own, and only ever used as the cache gives them.

In the process that compiles, a kernel may be linked with another copy of a function that it calls than the cache holds,
optimised differently, and its floats differ in the last bits: the first run after an installation would give other
lists than every later one.
"""

import fcntl
import os
import subprocess
import sys

import numpy as np

from tgn.config import ModelConfig
from tgn.graph import no_contexts
from tgn.kernel import CACHE, CACHE_NOTE
from tgn.model import Model
from tgn.outside_vectors import SIZE
from tgn.repair import History
from tgn.serialization import all_pages, load_pages
from tgn.successors import to_now


def ensure_compiled() -> None:
    """Compiles the kernels once for each version of their source; minutes, said on standard error.

    Other processes that need them meanwhile wait for the one that compiles.
    """
    complete = CACHE / "complete"
    if complete.exists():
        return
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return
        if CACHE_NOTE:
            print(f"freshet: {CACHE_NOTE}", file=sys.stderr)
        print("freshet: compiling the kernels, once for this version …", file=sys.stderr, flush=True)
        own = os.environ | {"NUMBA_CACHE_DIR": str(CACHE.parent)}
        subprocess.run([sys.executable, "-m", "streamer.engine.compilation"], check=True, env=own)
        complete.touch()


def use_every_kernel() -> None:
    """Calls each kernel that is called from Python, as the engine does."""
    model = Model(ModelConfig())
    n = 5_000  # enough for the set of pairs to be built anew
    user = np.array(model.users.encode([str(x % 50) for x in range(n)]), np.int32)
    item = np.array(model.items.encode([str(x) for x in range(n)]), np.int32)
    ones, t = np.ones(n, np.uint8), np.arange(n, dtype=np.int64)
    liked, context = ones.astype(np.float32), no_contexts(n)
    model.take(user, item, t, liked, context, k=2, score=ones, learn=ones, publish=ones)
    model.recommend(0, n, 2)
    model.introduce(model.items.encode(["new"])[0], n, np.ones(SIZE, np.float32))
    model.introduce(model.items.encode(["new"])[0], n, np.ones(SIZE, np.float32), hidden=True)
    model.delete(0)
    wanted = np.ones(len(model.graph.items.events), np.uint8)
    gone = user[:2] * 0, item[:2]  # user 0 has done the first and not the second: that pair leaves the set
    model.repair(user[:1], gone, wanted, History(user=user, item=item, t=t, weight=liked, context=context))
    model.next_to_rebuild(wanted, 0, np.ones(len(model.graph.users.events), np.int64), n)
    model.relist(model.readers(wanted)[:1], n, 2)
    to_now(model.graph.co.time, 0, n, 1.0)
    load_pages(Model(ModelConfig()), all_pages(model).items())


if __name__ == "__main__":  # in a process of its own
    use_every_kernel()
