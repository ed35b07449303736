"""The temporal graph as arrays: what every kernel reads and `observe` alone writes.

Shapes: U users, I items (both capacities that grow), R ring, M row, S row scales, L popularity scales, N head.
Times are int64 epoch ms; −1 stands for "no node" in every index array.
"""

from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tgn.compiling.addresses import by_address
from tgn.compiling.aligned import full, zeros
from tgn.compiling.growing import lengthened
from tgn.config import ModelConfig

I8: TypeAlias = NDArray[np.int8]
I16: TypeAlias = NDArray[np.int16]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
U8: TypeAlias = NDArray[np.uint8]
U64: TypeAlias = NDArray[np.uint64]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]


class Users(NamedTuple):
    """One row a user."""

    ring_item: I32  # [U, R] the last interactions, place = events mod R
    ring_time: I64  # [U, R]
    ring_weight: F32  # [U, R] event weight; ≤ 0 is a dislike
    ring_count: I32  # [U, R] interactions of the item up to and with this one
    events: I32  # [U] interactions so far
    repeats: I32  # [U] of them, how many named an item already in the ring
    context: I16  # [U, SLOTS] of the last interaction: rows of `tgn.context_embedding.Contexts`, −1: none
    attribute: I16  # [U, SLOTS] the user's own, likewise
    list_digest: I64  # [U] digest of the ranking published last; 0: none yet
    dirty: U8  # [U] 1: changed since the last checkpoint


class Items(NamedTuple):
    """One row an item. `popularity` is decayed to `last_time`; `log_popularity` is its natural logarithm."""

    popularity: F64  # [I, L]
    log_popularity: F32  # [I, L]
    events: I32  # [I] interactions so far
    introduced: I64  # [I] when the catalogue made it known; −1: no record of it did
    first_time: I64  # [I] when the catalogue or an interaction made it known; −1: not known
    last_time: I64  # [I]
    predecessors: I32  # [I] transition rows that hold the item (Kneser-Ney continuation count)
    hours: I32  # [I, 24] interactions by hour of the day
    alive: U8  # [I] LISTED, or why it is in no list: DELETED, HIDDEN
    dirty: U8  # [I] 1: changed since the last checkpoint, here or in the item's rows


class Rows(NamedTuple):
    """Successors of each item under one relation, weights as of the row's own `time` (see `tgn.successors`)."""

    item: I32  # [I, M] filled from the left
    weight: F32  # [I, S, M]
    total: F32  # [I, S] sum of all weights ever added, evicted ones included
    time: I64  # [I]
    size: I32  # [I] successors held


class Heads(NamedTuple):
    """The exact top N of decayed popularity per time scale.

    Untouched items keep their order, so the key log p + t/τ changes only when an item is touched.
    """

    item: I32  # [L, N]
    key: F64  # [L, N]
    size: I32  # [L]


class Newest(NamedTuple):
    """The newest items, place = total mod size."""

    item: I32  # [newest]
    total: I64  # [1] items known so far


class Pairs(NamedTuple):
    """Every (user, item) that ever interacted: an open-addressing hash set, exact and never decayed."""

    key: U64  # [slots] a power of two; 0 is empty, else ((user + 1) << 32) | item
    size: I64  # [1]
    dirty: U8  # [slots / PAIRS_A_PAGE] 1: changed since the last checkpoint


@by_address
class Graph(NamedTuple):
    """All of layer 1."""

    users: Users
    items: Items
    transitions: Rows
    co: Rows
    heads: Heads
    newest: Newest
    pairs: Pairs


PAIRS_A_PAGE = 64
SLOTS = 6  # contexts of an interaction, and attributes of a user, that are kept
REQUEST_SLOTS = 5  # contexts, the first ones, that are known when a list is asked for
NONE = -1
DELETED, LISTED, HIDDEN = 0, 1, 2  # of `Items.alive`; a hidden item keeps its history
NOTHING = -100.0  # log popularity of an item without any

Nodes = TypeVar("Nodes", bound=tuple[Any, ...])


def new_graph(config: ModelConfig, users: int = 1024, items: int = 1024) -> Graph:
    """An empty graph with room for so many nodes."""
    scales = len(config.popularity_scales_ms)
    return Graph(
        new_users(config, users),
        new_items(config, items),
        new_rows(config, items),
        new_rows(config, items),
        Heads(
            np.full((scales, config.head), -1, np.int32),
            np.full((scales, config.head), -np.inf),
            np.zeros(scales, np.int32),
        ),
        Newest(np.full(config.newest, -1, np.int32), np.zeros(1, np.int64)),
        Pairs(np.zeros(4096, np.uint64), np.zeros(1, np.int64), np.zeros(4096 // PAIRS_A_PAGE, np.uint8)),
    )


def new_users(config: ModelConfig, n: int) -> Users:
    """Room for so many users, none of whom has done anything yet."""
    return Users(
        np.full((n, config.ring), -1, np.int32),
        np.zeros((n, config.ring), np.int64),
        np.zeros((n, config.ring), np.float32),
        np.zeros((n, config.ring), np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        no_contexts(n),
        no_contexts(n),
        np.zeros(n, np.int64),
        np.zeros(n, np.uint8),
    )


def no_contexts(n: int) -> I16:
    """[n, SLOTS] of whom nothing is known."""
    return np.full((n, SLOTS), NONE, np.int16)


def new_items(config: ModelConfig, n: int) -> Items:
    """Room for so many items, none of which anybody has touched yet."""
    scales = len(config.popularity_scales_ms)
    return Items(
        np.zeros((n, scales)),
        np.full((n, scales), NOTHING, np.float32),
        np.zeros(n, np.int32),
        np.full(n, -1, np.int64),
        np.full(n, -1, np.int64),
        np.full(n, -1, np.int64),
        np.zeros(n, np.int32),
        zeros((n, 24), np.int32),
        np.ones(n, np.uint8),
        np.zeros(n, np.uint8),
    )


def new_rows(config: ModelConfig, n: int) -> Rows:
    """Room for the rows of so many items, all of them empty."""
    scales = len(config.row_scales_ms)
    return Rows(
        full((n, config.row), -1, np.int32),
        zeros((n, scales, config.row), np.float32),
        np.zeros((n, scales), np.float32),
        np.zeros(n, np.int64),
        np.zeros(n, np.int32),
    )


def with_room(nodes: Nodes, blank: Nodes, rows: int) -> Nodes:
    """The same arrays with so many rows; blank: those of one node of which nothing is known."""
    arrays: Any = zip(nodes, blank, strict=True)
    return type(nodes)(*(lengthened(array, rows, one[0]) for array, one in arrays))
