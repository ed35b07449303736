"""What the model is made of: sizes, time scales, learning. Frozen; part of the checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

EQUATIONS = 3
"""By which equations the model computes: raised by who changes what the same interactions give, in lists or state.
1: the embedding of a user was summed from h alone; 2: it weighed the ring by 1/√(1 + k) in every dimension."""

KERNEL_FOLDERS: list[Path] = []
"""Where compiled kernels are kept if no usual folder can be written; to be said before `tgn.kernel` is imported."""

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


POPULARITY_SCALES = 5  # each is a feature
MOST_ROW_SCALES = 8


class Range(NamedTuple):
    """What a number of ModelConfig may be: from least to most, in steps of `step` where it is a whole number."""

    least: float
    most: float
    step: int | None = 1  # None: any number between

    def holds(self, value: Any) -> bool:
        """Whether it may be `value`."""
        if isinstance(value, bool) or not isinstance(value, int | (float if self.step is None else int)):
            return False
        return self.least <= value <= self.most and (self.step is None or value % self.step == 0)

    def __str__(self) -> str:
        of = {None: "", 1: ""}.get(self.step, f", a multiple of {self.step}")
        return f"{self.least:,} to {self.most:,}{of}"


LONGEST_MS = 36_500 * DAY_MS
RANGES = {
    "ring": Range(1, 1_024),
    "row": Range(1, 1_024),
    "window": Range(1, 1_024),
    "popularity_scales_ms": Range(1, LONGEST_MS),
    "row_scales_ms": Range(1, LONGEST_MS),
    "sitting_ms": Range(0, LONGEST_MS),
    "baseline_scale": Range(0, POPULARITY_SCALES - 1),
    "transition_sources": Range(0, 1_024),
    "co_sources": Range(0, 1_024),
    "head": Range(1, 1_024),
    "newest": Range(1, 1_024),
    "every_item_below": Range(0, 1_000_000),
    "hidden": Range(4, 256, 4),
    "learning_rate": Range(0, 1, None),
    "learning_draws": Range(1, 1_024),
    "embedding": Range(1, 256),
    "embedding_rate": Range(0, 1, None),
    "retrieved": Range(0, 1_024),
    "waiting": Range(1, 65_536),
    "waiting_nearest": Range(0, 1_024),
    "active": Range(128, 65_536, 128),
    "memory": Range(16, 4_096, 16),
    "memory_scale_ms": Range(1, LONGEST_MS),
    "seed": Range(0, 2**63 - 2**16),
}
"""What each number of ModelConfig may be; that it works there is tested."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of the temporal graph, the candidate pool and the ranker.

    A time scale τ is the time in which a weight falls to 1/e.
    """

    ring: int = 64  # R: interactions kept per user
    row: int = 120  # M: successors kept per item and relation
    window: int = 20  # W: how many of a user's last interactions a new one co-interacts with
    popularity_scales_ms: tuple[int, ...] = (10 * MINUTE_MS, 4 * HOUR_MS, DAY_MS, 7 * DAY_MS, 45 * DAY_MS)
    row_scales_ms: tuple[int, ...] = (30 * DAY_MS, 365 * DAY_MS)  # of several the first counts one sitting alone
    sitting_ms: int = HOUR_MS  # two interactions of a user with no more time between are of one sitting
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

    def __post_init__(self) -> None:
        """Raises ValueError naming the field, what it got and what it may be."""
        for name, allowed in RANGES.items():
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if not all(allowed.holds(number) for number in values):
                raise ValueError(f"{name} = {value!r}: it may be {allowed}")
        if len(self.popularity_scales_ms) != POPULARITY_SCALES:
            raise ValueError(
                f"popularity_scales_ms = {self.popularity_scales_ms!r}: it takes {POPULARITY_SCALES} scales"
            )
        if not 1 <= len(self.row_scales_ms) <= MOST_ROW_SCALES:
            raise ValueError(f"row_scales_ms = {self.row_scales_ms!r}: it takes 1 to {MOST_ROW_SCALES} scales")
        if unknown := set(self.without) - set(PARTS):
            raise ValueError(f"without names {sorted(unknown)}: it may name {', '.join(PARTS)}")

    def off(self) -> int:
        """`without` as bits."""
        return sum(1 << PARTS.index(part) for part in self.without)


class Scales(NamedTuple):
    """Time scales τ, ms."""

    popularity: NDArray[np.float64]  # [L]
    rows: NDArray[np.float64]  # [S]


class KernelConfig(NamedTuple):
    """The numbers of ModelConfig that kernels read: what is constant."""

    window: int
    sitting_ms: int
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
    scales: Scales


class Request(NamedTuple):
    """What a list is asked for with: the arguments that every source of candidates and every feature read."""

    user: int  # node index
    now: int  # epoch ms
    exclude_seen: bool  # nothing that the user ever interacted with
    frozen: bool  # nothing is learned any more: the ranker's mean scores, and contexts are not read
    items: int  # how many item indices exist


def kernel_config(config: ModelConfig) -> KernelConfig:
    """The part of a configuration that kernels read."""
    named = {name: getattr(config, name) for name in KernelConfig._fields if name not in ("off", "scales")}
    return KernelConfig(**named, off=config.off(), scales=scales_of(config))


def scales_of(config: ModelConfig) -> Scales:
    """The time scales as kernels read them."""
    return Scales(np.array(config.popularity_scales_ms, np.float64), np.array(config.row_scales_ms, np.float64))
