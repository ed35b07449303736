"""Training on less than the whole graph: the neighbours of a batch, or one partition at a time."""

import numpy as np
import torch
from torch import Tensor

from tgn.family.view import GraphView, among, part
from tgn.family.walks import step


def neighbourhood(view: GraphView, seeds: Tensor, layers: int, fan_out: int, random: np.random.Generator) -> GraphView:
    """The view of the seeds and of up to `fan_out` neighbours drawn for each node, `layers` steps far.

    seeds: distinct nodes. Only the drawn edges are in it, in both directions (GraphSAGE; Hamilton et al. 2017).
    """
    rows, columns = view.weight.crow_indices().numpy(), view.weight.col_indices().numpy()
    known = np.zeros(len(view.node), bool)
    edge = seeds.numpy()
    known[edge] = True
    drawn: list[np.ndarray] = []
    for _ in range(layers):
        source = np.repeat(edge, fan_out)
        target = step(source, rows, columns, random)
        drawn.append(np.unique(np.stack([source, target]), axis=1))
        edge = np.unique(target[~known[target]])
        known[edge] = True
    pairs = np.concatenate(drawn, axis=1)
    pairs = np.unique(np.concatenate([pairs, pairs[::-1]], axis=1), axis=1)
    return among(view, torch.from_numpy(np.flatnonzero(known)), torch.from_numpy(pairs[:, pairs[0] != pairs[1]]))


def partitions(view: GraphView, parts: int) -> list[GraphView]:
    """The graph in so many parts with few edges between them (METIS; Karypis & Kumar 1998), as Cluster-GCN trains."""
    import pymetis

    rows, columns = view.weight.crow_indices().numpy(), view.weight.col_indices().numpy()
    _, member = pymetis.part_graph(parts, pymetis.CSRAdjacency(rows, columns))
    places = np.asarray(member)
    found = [torch.from_numpy(np.flatnonzero(places == n)) for n in range(parts)]
    return [part(view, nodes) for nodes in found if len(nodes)]
