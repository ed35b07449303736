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
from streamer.features.tables import weights_of
from streamer.settings import Settings
from tgn import prequential as p
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
    arrays: p.ModelArrays, scratch: p.Scratch, config: p.KernelConfig, items: int, batch: p.InteractionBatch,
    stages: int, lists: p.Lists,
) -> None:  # fmt: skip
    """Takes a batch, every event its own block, with the first `stages` stages; see `tgn.prequential.query`."""
    graph, pool, taste, act = arrays.graph, scratch.pool, scratch.taste, scratch.act
    for n in range(len(batch.user)):
        user, item, t = batch.user[n], batch.item[n], batch.t[n]
        request = p.Request(user, t, False, False, items)
        size, target = 0, -1
        if stages > 1:
            size = p.gather(graph, pool, request, config)
        if stages > 2:
            p.embed(arrays.embeddings, graph.users, user, taste.user)
            p.add_contexts(arrays.contexts, graph.users, user, taste.user)
        if stages > 3:
            size = p._add_nearest(arrays, scratch, config, request, size)
        if stages > 1:
            pool.sizes[p.TOGETHER] = size
        if stages > 4:
            known = graph.newest.total[0]
            held = pool.sizes[p.FROM_RING]
            p.complete_features(graph, pool.x, pool.item, size, held, request, config.scales, known)
        if stages > 5:
            p.embedding_features(arrays.embeddings, arrays.popularity, taste, pool.item, pool.x, size)
        if stages > 6:
            p.memory_features(arrays.memories, user, pool.item, pool.x, size, pool.sizes[p.FROM_RING])
        if stages > 7:
            p.forward(arrays.ranker.weights, act, pool.x, size, pool.sizes[p.FROM_RING])
        if stages > 8:
            lists.size[n] = p.top_k(pool.item, act.score, size, arrays.names, lists.item[n], lists.score[n])
        if stages > 9:
            target = p._place_of(pool, item, size)
            p.softmax(act.score, act.probability, size)
            p._surprise(graph, act, target)
            p.popularity_rank(graph, request, item, config.baseline_scale, lists.item.shape[1])
        if stages > 10 and target >= 0:
            p._learn_ranker(arrays, scratch, config, size, target)
        if stages > 11 and target >= 0:
            p._learn_embedding(arrays, scratch, config, user, size, target)
        p._observe(arrays, config, batch, n)


def measure(file: Path) -> dict[str, float]:
    """µs an event of each stage over the last SAMPLE events of a stream."""
    table, settings = read_interactions(file), Settings()
    engine, weight = Engine(settings), weights_of(table, EventWeights(settings.event_weights))
    columns = engine.encode_table(table, weight)
    first = len(table) - SAMPLE
    for start in range(0, first, CHUNK):
        part = Columns(*(column[start : min(start + CHUNK, first)] for column in columns))
        learn = start + CHUNK > first - LEARNED
        engine.take(part, learn=learn, score=learn, publish=False)
    engine.model.make_room(SAMPLE)
    ones = np.ones(SAMPLE, np.uint8)
    batch = p.InteractionBatch(*(column[first:] for column in columns), ones, ones, ones * 0, np.arange(SAMPLE))
    return _differences(engine, batch)


def _differences(engine: Engine, batch: p.InteractionBatch) -> dict[str, float]:
    model, items = engine.model, len(engine.model.items)
    state, config = (model.arrays(), model._scratch), model._config
    empty = p.InteractionBatch(*(column[:0] for column in batch))
    k = engine.k
    lists = p.Lists(np.zeros((SAMPLE, k), np.int32), np.zeros((SAMPLE, k), np.float32), np.zeros(SAMPLE, np.int32))
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
