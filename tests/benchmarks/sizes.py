"""Bytes of state: of one row of a user or an item, and of a whole model, from the model's own arrays."""

from collections.abc import Iterable

import numpy as np

from tgn.config import ModelConfig
from tgn.model import Model


def row_bytes() -> tuple[int, int]:
    """Bytes that one user and one item take, whatever they did; without ids and without the set of pairs."""
    model = Model(ModelConfig())
    graph = model.graph
    of_user = (graph.users, model.memories.user)
    content = (model.content.vector, model.content.dirty)
    of_item = (graph.items, graph.transitions, graph.co, model.embeddings, model.memories.item, content)
    return sum(_row(group) for group in of_user), sum(_row(group) for group in of_item)


def state_bytes(model: Model) -> int:
    """Bytes of every array of the model, ids in Python aside."""
    learned = (model.embeddings, model.popularity, model.contexts, model.ranker)
    groups = (*model.graph, *learned, *model.memories, model.content, *model.trained, model.active)
    names = (*model.users.names, *model.items.names)
    return sum(array.nbytes for group in groups for array in group) + sum(array.nbytes for array in names)


def _row(group: Iterable[np.ndarray]) -> int:
    return sum(array[0].nbytes for array in group)
