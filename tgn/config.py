"""What the model is made of: sizes, time scales, learning. Frozen; part of the checkpoint."""

from dataclasses import dataclass
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of the temporal graph, the candidate pool and the ranker.

    A time scale τ is the time in which a weight falls to 1/e.
    """

    ring: int = 64  # R: interactions kept per user
    row: int = 64  # M: successors kept per item and relation
    window: int = 20  # W: how many of a user's last interactions a new one co-interacts with
    popularity_scales_ms: tuple[int, ...] = (10 * MINUTE_MS, 4 * HOUR_MS, DAY_MS, 7 * DAY_MS, 45 * DAY_MS)
    row_scales_ms: tuple[int, ...] = (30 * DAY_MS, 365 * DAY_MS)
    baseline_scale: int = 2  # index of the popularity scale that fills lists and serves as the baseline
    transition_sources: int = 3  # the user's last items whose transition rows are read
    co_sources: int = 8  # the user's last items whose co-interaction rows are read
    head: int = 100  # N: most popular items kept per time scale
    newest: int = 50  # newest items in the pool
    every_item_below: int = 2_000  # catalogues up to this size are scored whole
    hidden: int = 32  # H: units of each hidden layer of the ranker
    learning_rate: float = 1e-3
    learning_batch: int = 8  # B: events whose gradients make one Adam step, counted from the stream's start
    learning_draws: int = 32  # candidates drawn per event for the backward pass
    embedding: int = 32  # D: size of an item's embedding
    embedding_rate: float = 0.15
    seed: int = 0


class KernelConfig(NamedTuple):
    """The numbers of ModelConfig that kernels read."""

    window: int
    transition_sources: int
    co_sources: int
    every_item_below: int
    baseline_scale: int
    learning_rate: float
    learning_batch: int
    learning_draws: int
    embedding_rate: float
