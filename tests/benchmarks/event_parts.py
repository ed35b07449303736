"""What one event costs by part, inside the kernels: python -m tests.benchmarks.event_parts FILE prints JSON.

The loop of `tgn.prequential` again, cut off after a stage; observing is in all of them, so that the state moves on as
it does in a replay. The same events are taken up to each stage from a copy of the same state, and what a stage costs is
the difference to the one before. Learned weights move in the last stages only.
"""

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np

from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions
from streamer.engine.engine import Columns, Engine
from streamer.features.tables import weigh_rows
from streamer.settings import Settings
from tgn import prequential
from tgn.kernel import kernel

STAGES = (
    "observe (with memory, active items)",
    "gather",
    "user's embedding",
    "scan + best",
    "features",
    "embedding's features",
    "memory's feature",
    "forward",
    "top-k",
    "softmax, rank, surprise",
    "learn ranker",
    "learn embedding",
)
SAMPLE, REPEATS = 5_000, 3
LEARNED, CHUNK = 50_000, 50_000  # events before the sample that are learned from; those before them are observed only


@kernel
def upto(
    arrays: prequential.ModelArrays, scratch: prequential.Scratch, config: prequential.KernelConfig, items: int, batch: prequential.InteractionBatch,
    stages: int, lists: prequential.Lists,
) -> None:  # fmt: skip
    """Takes a batch, every event its own block, with the first `stages` stages; see `tgn.prequential.query`."""
    graph, pool, taste, act = arrays.graph, scratch.pool, scratch.taste, scratch.act
    for n in range(len(batch.user)):
        user, item, t = batch.user[n], batch.item[n], batch.t[n]
        request = prequential.Request(user, t, False, False, items)
        size, target = 0, -1
        if stages > 1:
            size = prequential.gather(graph, pool, request, config)
        if stages > 2:
            prequential.embed(arrays.embeddings, graph.users, user, taste.user)
            prequential.add_contexts(arrays.contexts, graph.users, user, taste.user)
        if stages > 3:
            size = prequential._add_nearest(arrays, scratch, config, request, size)
        if stages > 1:
            pool.sizes[prequential.TOGETHER] = size
        if stages > 4:
            known = graph.newest.total[0]
            held = pool.sizes[prequential.FROM_RING]
            prequential.complete_features(graph, pool.x, pool.item, size, held, request, config.scales, known)
        if stages > 5:
            prequential.embedding_features(arrays.embeddings, arrays.popularity, taste, pool.item, pool.x, size)
        if stages > 6:
            prequential.memory_features(
                arrays.memories, user, pool.item, pool.x, size, pool.sizes[prequential.FROM_RING]
            )
        if stages > 7:
            prequential.forward(arrays.ranker.weights, act, pool.x, size, pool.sizes[prequential.FROM_RING])
        if stages > 8:
            lists.size[n] = prequential.top_k(pool.item, act.score, size, arrays.names, lists.item[n], lists.score[n])
        if stages > 9:
            target = prequential._find_in_pool(pool, item, size)
            prequential.softmax(act.score, act.probability, size)
            prequential._surprise(graph, act, target)
            prequential.popularity_rank(graph, request, item, config.baseline_scale, lists.item.shape[1])
        if stages > 10 and target >= 0:
            prequential._learn_ranker(arrays, scratch, config, size, target)
        if stages > 11:
            prequential._learn_embeddings(arrays, scratch, config, request, size, item)
        prequential._observe(arrays, config, batch, n)


def measure(file: Path) -> dict[str, float]:
    """µs an event of each stage over the last SAMPLE events of a stream."""
    table, settings = read_interactions(file), Settings()
    engine, weight = Engine(settings), weigh_rows(table, EventWeights(settings.event_weights))
    columns = engine.encode_table(table, weight)
    first = len(table) - SAMPLE
    for start in range(0, first, CHUNK):
        part = Columns(*(column[start : min(start + CHUNK, first)] for column in columns))
        learn = start + CHUNK > first - LEARNED
        engine.take(part, learn=learn, score=learn, publish=False)
    engine.model.make_room(SAMPLE)
    ones = np.ones(SAMPLE, np.uint8)
    batch = prequential.InteractionBatch(
        *(column[first:].copy() for column in columns), ones, ones, ones * 0, np.arange(SAMPLE)
    )
    return _differences(engine, batch)


def _differences(engine: Engine, batch: prequential.InteractionBatch) -> dict[str, float]:
    model, items = engine.model, len(engine.model.items)
    state, config = (model.arrays(), model._scratch), model._config
    empty = prequential.InteractionBatch(*(column[:0].copy() for column in batch))
    k = engine.k
    lists = prequential.Lists(
        np.zeros((SAMPLE, k), np.int32), np.zeros((SAMPLE, k), np.float32), np.zeros(SAMPLE, np.int32)
    )
    upto(*state, config, items, empty, 1, lists)  # compiles
    seconds = np.zeros((REPEATS, len(STAGES)))
    for repeat in range(REPEATS):
        for stage in range(len(STAGES)):
            arrays, scratch = copy.deepcopy(state)
            worked = time.process_time()
            upto(arrays, scratch, config, items, batch, stage + 1, lists)
            seconds[repeat, stage] = time.process_time() - worked
    each = seconds.min(axis=0) * 1e6 / SAMPLE  # the least of a few: others share the machine's caches
    return dict(zip(STAGES, np.diff(each, prepend=0).tolist(), strict=True)) | {"together": float(each[-1])}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
