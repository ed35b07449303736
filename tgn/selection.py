"""What may be listed where it is not all that there is: a mask in the place of `Items.alive`, and how many candidates.

Candidates are gathered under the mask, so that a list is full wherever enough items pass.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tgn.config import KernelConfig, ModelConfig
from tgn.graph import I32, LISTED, U8, Graph

ALL_SCORED = 2_000
"""Where a selection lets at most so many items pass, each of them is a candidate."""
EVERY_ITEM = 2**31 - 1
MOST_RETRIEVED = 65_536


class Allowed(NamedTuple):
    """What may be listed."""

    alive: U8  # [I] LISTED where it may be, as `Items.alive`
    selected: bool  # it is a selection, a filter or candidates, and not all but a few


def masked(graph: Graph, allowed: Allowed) -> Graph:
    """The graph with the mask; all else is shared with it."""
    return graph._replace(items=graph.items._replace(alive=allowed.alive))


def passing(graph: Graph, allowed: Allowed) -> I32:
    """[N] the known items that may be listed."""
    nodes = np.flatnonzero(allowed.alive == LISTED).astype(np.int32)
    return nodes[graph.items.first_time[nodes] >= 0]


def widened(graph: Graph, config: KernelConfig, passing: int) -> KernelConfig:
    """The constants with which a selection that so many items pass is gathered.

    All of them are candidates where they are few. Else as many more are retrieved as it takes for as many to pass.
    """
    if passing <= ALL_SCORED:
        return config._replace(every_item_below=EVERY_ITEM)
    return config._replace(retrieved=min(int(config.retrieved / share(graph, passing)), MOST_RETRIEVED))


def share(graph: Graph, passing: int) -> float:
    """Which part of the known items so many are."""
    known = int(min(graph.newest.total[0], len(graph.items.events)))
    return passing / max(known, 1)


def roomy(config: ModelConfig) -> ModelConfig:
    """The configuration that makes scratch arrays with room for all of a selection."""
    return replace(config, every_item_below=max(config.every_item_below, ALL_SCORED))
