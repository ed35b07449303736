"""The items nearest to one by a kind of vectors, where there are very many: by an index of faiss (extra `retrieval`).

An index is built beside the worker's thread, the first time that it is asked for and now and then anew. It says which
items are compared, never how near they are: of a vector that has changed it may miss an item.
"""

import threading
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from tgn.graph import I8, I32
from tgn.outside_vectors import SCALE, Vectors

LARGE = 100_000  # items to compare; fewer are compared one by one
NEAREST = 1_000  # of each kind of vectors, whose cosines are then taken exactly
REBUILD_S = 600.0
TAIL = 20_000  # items that came after the index: all of them are compared; more, and it is built again
SAMPLE, PASSES = 30, 10  # vectors of each cell from which cells are made, and how often they are looked through
PROBED = 0.25  # share of the cells that are looked into


class _Index(NamedTuple):
    """What was built of a version of the vectors, for items below `end`."""

    version: str
    found: Any  # faiss.IndexIVFFlat
    end: int
    built_s: float


class NearItems:
    """Finds the items nearest to one by vectors of one kind."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._index: _Index | None = None
        self._building: threading.Thread | None = None
        self._has_faiss = find_spec("faiss") is not None

    def near(self, vectors: Vectors, item: int, items: int, version: str = "") -> I32 | None:
        """Items that may be near, in no order and some of them more than once; None while there is no index.

        Args:
            items: how many there are.
            version: of the vectors; those of another are compared by an index of their own.
        """
        if not self._has_faiss:
            return None
        index = self._index
        if index is None or self._is_old(index, items, version):
            self._build(vectors.vector, items, version)
        if index is None or index.version != version or items - index.end > TAIL:
            return None
        _, found = index.found.search(_of_length_1(vectors.vector[item : item + 1]), NEAREST)
        return np.concatenate([found[0][found[0] >= 0], np.arange(index.end, items)]).astype(np.int32)

    def wait(self) -> None:
        """Returns when nothing is being built."""
        if self._building is not None:
            self._building.join()

    def _is_old(self, index: _Index, items: int, version: str) -> bool:
        aged = self._clock.monotonic() - index.built_s > REBUILD_S
        return index.version != version or items - index.end > TAIL // 2 or aged

    def _build(self, rows: I8, items: int, version: str) -> None:
        if self._building is None or not self._building.is_alive():
            self._building = threading.Thread(target=self._built, args=(rows, items, version), daemon=True)
            self._building.start()

    def _built(self, rows: I8, items: int, version: str) -> None:
        """Rows change meanwhile: what is torn is near to nothing, or stands where it stood before."""
        nodes = np.flatnonzero(rows[:items].any(axis=1))
        self._index = _Index(version, _index_of(rows, nodes), items, self._clock.monotonic())


def among(nodes: I32, wanted: I32) -> I32:
    """Those of nodes [N], sorted, that are wanted."""
    wanted = np.unique(wanted)
    at = np.minimum(np.searchsorted(nodes, wanted), len(nodes) - 1)
    found: I32 = wanted[nodes[at] == wanted]
    return found


def _index_of(rows: I8, nodes: np.ndarray) -> Any:
    import faiss

    faiss.omp_set_num_threads(1)  # the other cores are somebody else's
    cells = max(int(2 * len(nodes) ** 0.5), 1)
    sample = np.random.default_rng(0).permutation(nodes)[: SAMPLE * cells]
    quantizer = faiss.IndexFlatIP(rows.shape[1])
    index = faiss.IndexIVFFlat(quantizer, rows.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.min_points_per_centroid = PASSES, 1
    index.nprobe = max(int(PROBED * cells), 1)
    if len(nodes):
        index.train(_of_length_1(rows[sample]))
        for begin in range(0, len(nodes), LARGE):  # a part at a time: the thread that answers gets its turn
            part = nodes[begin : begin + LARGE]
            index.add_with_ids(_of_length_1(rows[part]), part.astype(np.int64))
    return index


def _of_length_1(rows: I8) -> np.ndarray:
    found = rows.astype(np.float32) / SCALE
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6), np.float32)
