"""What the model is made of: sizes, time scales, learning. Frozen; part of the checkpoint."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

Part = Literal[
    "ring", "transitions", "co-interaction", "popularity", "newest",
    "embedding", "retrieval", "memory", "hours", "content", "context", "trained", "ranker",
]  # fmt: skip
PARTS: tuple[Part, ...] = get_args(Part)
"""What an ablation can leave out: sources of candidates with their features, features alone, learning the ranker."""
(
    RING,
    TRANSITIONS,
    CO_INTERACTION,
    POPULAR,
    NEWEST,
    EMBEDDINGS,
    RETRIEVAL,
    MEMORIES,
    HOURS,
    CONTENT,
    CONTEXT,
    TRAINED_VECTORS,
    RANKER,
) = (1 << n for n in range(len(PARTS)))


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of the temporal graph, the candidate pool and the ranker.

    A time scale τ is the time in which a weight falls to 1/e.
    """

    ring: int = 64  # R: interactions kept per user
    row: int = 120  # M: successors kept per item and relation
    window: int = 20  # W: how many of a user's last interactions a new one co-interacts with
    popularity_scales_ms: tuple[int, ...] = (10 * MINUTE_MS, 4 * HOUR_MS, DAY_MS, 7 * DAY_MS, 45 * DAY_MS)
    row_scales_ms: tuple[int, ...] = (30 * DAY_MS, 365 * DAY_MS)
    baseline_scale: int = 2  # index of the popularity scale that fills lists and serves as the baseline
    transition_sources: int = 3  # the user's last items whose transition rows are read
    co_sources: int = 8  # the user's last items whose co-interaction rows are read
    head: int = 25  # N: most popular items kept per time scale
    newest: int = 25  # newest items in the pool
    every_item_below: int = 500  # catalogues up to this size are scored whole
    hidden: int = 32  # H: units of each hidden layer of the ranker
    learning_rate: float = 1e-3
    learning_draws: int = 32  # candidates drawn per event for the backward pass
    embedding: int = 32  # D: size of an item's embedding
    embedding_rate: float = 0.15
    retrieved: int = 100  # items nearest to the user's embedding in the pool
    waiting: int = 1_024  # items introduced last, among which those nobody has touched are looked for
    waiting_nearest: int = 10  # of them in the pool
    active: int = 2_048  # A: items among which the nearest are looked for, a multiple of 128
    memory: int = 48  # size of a layer of a node's memory, a multiple of 16
    memory_scale_ms: int = 90 * DAY_MS  # τ of a memory
    without: tuple[Part, ...] = ()  # PARTS left out
    seed: int = 0

    def off(self) -> int:
        """`without` as bits."""
        return sum(1 << PARTS.index(part) for part in self.without)


class KernelConfig(NamedTuple):
    """The numbers of ModelConfig that kernels read."""

    window: int
    transition_sources: int
    co_sources: int
    every_item_below: int
    baseline_scale: int
    learning_rate: float
    learning_draws: int
    embedding_rate: float
    retrieved: int
    memory_scale_ms: int
    seed: int
    off: int  # bits of PARTS left out


def kernel_config(config: ModelConfig) -> KernelConfig:
    """The part of a configuration that kernels read."""
    named = {name: getattr(config, name) for name in KernelConfig._fields if name != "off"}
    return KernelConfig(**named, off=config.off())
