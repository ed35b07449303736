"""What an encoder reads: the heterogeneous graph as one symmetric adjacency over all nodes, or a part of it.

Nodes are numbered users first, then items, then context nodes, kind by kind. A part (the neighbours sampled for a
batch, one of METIS' partitions) is a view like the whole, with the numbers that its nodes have there.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from tgn.family.hetero import CONTEXTUAL, DERIVED, EXPLICIT, IMPLICIT, ITEM, USER

END_OF_TIME = 2**63 - 1
RELATIONS = (EXPLICIT, IMPLICIT, DERIVED, CONTEXTUAL)


class GraphView(NamedTuple):
    """n nodes and their edges. D below: the diagonal matrix of degrees, by weight."""

    node: Tensor  # [n] int64: the number of each in the whole
    adjacency: Tensor  # [n, n] sparse CSR: D^-½ A D^-½, symmetric
    weight: Tensor  # [n, n] sparse CSR: A, symmetric
    users: int  # of the whole: nodes below are users,
    items: int  # and so many after them items
    follows: tuple[Tensor, Tensor] | None = None  # [I, I] sparse CSR of the whole, rows sum to 1: what follows an item
    # in its users' histories, and what it follows

    def on(self, device: torch.device) -> "GraphView":
        """What an encoder's `forward` reads, on a device; weights, which are drawn from, stay."""
        follows = self.follows and (self.follows[0].to(device), self.follows[1].to(device))
        return self._replace(node=self.node.to(device), adjacency=self.adjacency.to(device), follows=follows)


def whole(data: HeteroData, relations: Collection[str] = (EXPLICIT, IMPLICIT), before: int = END_OF_TIME) -> GraphView:
    """The view of all nodes, with the edges of these relations; weights of repeated edges add up.

    before: epoch ms; edges that are of that time or later, or were last renewed then, are left out.
    """
    first = _numbers(data)
    sources, targets, weights = [], [], []
    for kind, relation, other in data.edge_types:
        if relation in relations:
            store = data[kind, relation, other]
            kept = store.time < before
            sources.append(store.edge_index[0][kept] + first[kind])
            targets.append(store.edge_index[1][kept] + first[other])
            weights.append(store.weight[kept] / (2 if relation == DERIVED else 1))  # those are there both ways
    n = sum(data[kind].num_nodes for kind in data.node_types)
    source, target, weight = torch.cat(sources), torch.cat(targets), torch.cat(weights).float()
    both = torch.stack([torch.cat([source, target]), torch.cat([target, source])])
    coo = torch.sparse_coo_tensor(both, torch.cat([weight, weight]), (n, n), check_invariants=False).coalesce()
    view = _view(torch.arange(n), coo, data[USER].num_nodes, data[ITEM].num_nodes)
    history = gather_history(data)
    past = history.time < before
    return view._replace(follows=_follows(history.user[past], history.item[past], view.items))


class ChosenItems(NamedTuple):
    """What every user chose, user by user, in time order."""

    user: Tensor  # [E] int64, rising
    item: Tensor  # [E]
    time: Tensor  # [E] epoch ms
    kind: Tensor  # [E] index of the event type

    def before(self, place: Tensor, length: int) -> Tensor:
        """[B, length] items before each place [B] of the same user, newest first; −1 where there is none."""
        return self._back(place, self.user[place], length)

    def last(self, users: int, length: int) -> Tensor:
        """[users, length] items of each user, newest first; −1 where there is none."""
        user = torch.arange(users)
        return self._back(torch.searchsorted(self.user, user, right=True), user, length)

    def _back(self, end: Tensor, user: Tensor, length: int) -> Tensor:
        back = end.unsqueeze(1) - torch.arange(1, length + 1)
        there = (back >= 0) & (self.user[back.clamp(min=0)] == user.unsqueeze(1))
        return torch.where(there, self.item[back.clamp(min=0)], -1)


def gather_history(data: HeteroData) -> ChosenItems:
    """Every interaction of a graph."""
    stores = [data[USER, kind, ITEM] for kind in (EXPLICIT, IMPLICIT) if (USER, kind, ITEM) in data.edge_types]
    pairs = torch.cat([store.edge_index for store in stores], 1)
    time, kind = (torch.cat([store[name] for store in stores]) for name in ("time", "kind"))
    order = torch.from_numpy(np.lexsort((time.numpy(), pairs[0].numpy())))
    return ChosenItems(pairs[0][order], pairs[1][order], time[order], kind[order])


def _follows(user: Tensor, item: Tensor, items: int) -> tuple[Tensor, Tensor]:
    same = user[1:] == user[:-1]
    older, newer = item[:-1][same], item[1:][same]
    return _shares(older, newer, items), _shares(newer, older, items)


def _shares(source: Tensor, target: Tensor, items: int) -> Tensor:
    """[items, items] CSR of how often each target belongs to a source, rows summing to 1."""
    pairs = torch.stack([source, target])
    counts = torch.sparse_coo_tensor(pairs, torch.ones(len(source)), (items, items), check_invariants=False).coalesce()
    total = torch.bincount(source, minlength=items).clamp(min=1)
    share = counts.values() / total[counts.indices()[0]]
    return torch.sparse_coo_tensor(counts.indices(), share, (items, items)).coalesce().to_sparse_csr()


def part(view: GraphView, node: Tensor) -> GraphView:
    """The view of some nodes [m] and all edges among them."""
    coo = view.weight.to_sparse(layout=torch.sparse_coo).coalesce()
    return among(view, node, coo.indices(), coo.values())


def among(view: GraphView, node: Tensor, pairs: Tensor, weight: Tensor | None = None) -> GraphView:
    """The view of some nodes [m] and those of the edges `pairs` [2, E], both ways, that lie among them."""
    source, target = places(node, len(view.node))[pairs]
    kept = (source >= 0) & (target >= 0)
    weight = torch.ones(len(source)) if weight is None else weight
    inner = torch.stack([source[kept], target[kept]])
    coo = torch.sparse_coo_tensor(inner, weight[kept], (len(node), len(node)), check_invariants=False)
    return _view(view.node[node], coo.coalesce(), view.users, view.items)


def places(node: Tensor, n: int) -> Tensor:
    """[n] where each of n nodes stands among some of them [m], −1 where it does not."""
    place = torch.full((n,), -1)
    place[node.cpu()] = torch.arange(len(node))
    return place


def _view(node: Tensor, coo: Tensor, users: int, items: int) -> GraphView:
    source, target = coo.indices()
    degree = torch.zeros(len(node)).index_add_(0, source, coo.values())
    root = degree.clamp(min=1e-12).rsqrt()
    normal = torch.sparse_coo_tensor(coo.indices(), coo.values() * root[source] * root[target], coo.shape)
    return GraphView(node, normal.coalesce().to_sparse_csr(), coo.to_sparse_csr(), users, items)


def numbered(kinds: Iterable[str]) -> list[str]:
    """The node types in the order in which their nodes are numbered."""
    return [USER, ITEM, *sorted(kind for kind in kinds if kind not in (USER, ITEM))]


def _numbers(data: HeteroData) -> dict[str, int]:
    """The first number of each node type."""
    kinds = numbered(data.node_types)
    sizes = np.cumsum([0, *(data[kind].num_nodes for kind in kinds)])
    return dict(zip(kinds, sizes.tolist(), strict=False))
