"""The parts of the graph family by hand: graph, losses, negatives, walks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from streamer.cli.commands.train import NEGATIVES
from tests.lazily import lazily, needs

pytestmark = needs("torch_geometric", "graph")
torch = lazily("torch")
hetero = lazily("tgn.family.hetero")
losses = lazily("tgn.family.losses")
Sampler = lazily("tgn.family.negatives:Sampler")
visits = lazily("tgn.family.walks:visits")
whole = lazily("tgn.family.view:whole")
NAN = float("nan")


def hetero_graph(attributes: Sequence[Any] = (), **times: int) -> Any:
    """The graph of five interactions of two users with three items."""
    events = hetero.Events(
        np.array([0, 0, 1, 0, 1]),
        np.array([0, 1, 1, 2, 2]),
        np.array([10, 20, 30, 40, 50]),
        np.array([1, 1, 2, 4, 1], np.float32),
        np.array([NAN, NAN, NAN, 4, NAN], np.float32),
        np.array([0, 0, 1, 2, 0]),
    )
    return hetero.hetero_graph(events, 2, 3, attributes, **times)


def device() -> Any:
    rows, values = np.array([0, 1, 2, 4]), np.array([0, 0, 1, 0])
    return hetero.Attribute("device", "interaction", rows, values, ["phone", "desk"])


def genre() -> Any:
    return hetero.Attribute("genre", "item", np.array([0, 1, 1]), np.array([0, 0, 1]), ["drama", "war"])


def test_the_four_kinds_of_edges() -> None:
    from tgn.family.hetero import CONTEXTUAL, DERIVED, EXPLICIT, IMPLICIT, ITEM, USER

    data = hetero_graph([device(), genre()], until=60, window=2)
    implicit, explicit = data[USER, IMPLICIT, ITEM], data[USER, EXPLICIT, ITEM]
    assert implicit.edge_index.tolist() == [[0, 0, 1, 1], [0, 1, 1, 2]]
    assert (implicit.weight.tolist(), implicit.time.tolist()) == ([1, 1, 2, 1], [10, 20, 30, 50])
    assert (explicit.edge_index.tolist(), explicit.value.tolist(), explicit.kind.tolist()) == ([[0], [2]], [4], [2])
    together = data[ITEM, DERIVED, ITEM]
    assert together.edge_index.T.tolist() == [[0, 1], [1, 2], [1, 0], [2, 1]]
    assert (together.weight.tolist(), together.time.tolist()) == ([1, 2, 1, 2], [20, 50, 20, 50])
    devices = data[USER, CONTEXTUAL, "device"]
    assert devices.edge_index.T.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert (devices.weight.tolist(), devices.time.tolist()) == ([2, 1, 1], [20, 50, 30])
    assert data[ITEM, CONTEXTUAL, "genre"].edge_index.T.tolist() == [[0, 0], [1, 0], [1, 1]]


def test_nothing_of_the_future_is_in_the_graph() -> None:
    now = hetero_graph([device()], until=40)
    assert (hetero.USER, hetero.EXPLICIT, hetero.ITEM) not in now.edge_types
    assert all(int(store.time.max()) < 40 for store in now.edge_stores)
    later = hetero_graph([device()], since=30, until=60)
    assert min(int(store.time.min()) for store in later.edge_stores if len(store.time)) >= 30
    with pytest.raises(ValueError, match="no interaction from 60 on and before 70"):
        hetero_graph(since=60, until=70)


def test_the_view_is_symmetric_and_normalised() -> None:
    view = whole(hetero_graph(until=60))
    dense = view.adjacency.to_dense()
    assert torch.equal(dense, dense.T)
    weight = view.weight.to_dense()
    assert weight[0].tolist() == [0, 0, 1, 1, 4]  # user 0 to the three items
    degree = weight.sum(1)
    assert torch.allclose(dense, weight / (degree.sqrt().unsqueeze(1) * degree.sqrt()))


def test_histories_are_in_time_order_and_know_what_came_before() -> None:
    history = lazily("tgn.family.view:gather_history")(hetero_graph(until=60))
    assert history.item.tolist() == [0, 1, 2, 1, 2]
    assert history.before(torch.tensor([0, 2, 4]), 2).tolist() == [[-1, -1], [1, 0], [1, -1]]
    assert history.last(2, 2).tolist() == [[2, 1], [2, 1]]


def test_the_losses_by_hand() -> None:
    positive, negative = torch.tensor([1.0]), torch.tensor([[0.0, 2.0]])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert float(losses.bpr(positive, negative)) == pytest.approx(expected)
    total = math.exp(1) + math.exp(0) + math.exp(2)
    assert float(losses.infonce(positive, negative)) == pytest.approx(math.log(total) - 1)
    log_q = torch.log(torch.tensor([2.0, 0.5]))
    total = math.exp(1) + math.exp(0) / 2 + math.exp(2) / 0.5
    assert float(losses.sampled_softmax(positive, negative, log_q)) == pytest.approx(math.log(total) - 1)


def test_tasks_weigh_as_they_are_told_however_many_edges_each_has() -> None:
    of_edges, task = torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0, 0, 2])
    assert float(losses.multitask(of_edges, task, torch.tensor([1.0, 5.0, 3.0]))) == pytest.approx((1 * 2 + 3 * 10) / 4)


def test_the_product_and_its_gradient_are_those_of_torch() -> None:
    dense = torch.rand(6, 6)
    dense = dense + dense.T
    x, y = (torch.arange(12.0).reshape(6, 2).requires_grad_() for _ in range(2))
    (lazily("tgn.family.symmetric:product")(dense.to_sparse_csr(), x) ** 2).sum().backward()
    ((dense @ y) ** 2).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, y.grad, rtol=1e-4)


def test_attention_and_its_gradients_are_those_of_torch_geometric() -> None:
    from torch_geometric.nn import GATv2Conv

    from tgn.family.attention import Attention

    torch.manual_seed(0)
    edges = (torch.rand(50, 50) < 0.1).float()
    edges[3] = 0  # a node without a neighbour
    adjacency, x = edges.to_sparse_csr(), torch.randn(50, 16, requires_grad=True)
    layer = Attention(16, 8, heads=2, add_self_loops=False)

    def gradients(y: "torch.Tensor") -> "list[torch.Tensor]":
        return list(torch.autograd.grad((y * torch.arange(16)).sum(), [x, *layer.parameters()]))

    ours, theirs = layer(x, adjacency), GATv2Conv.forward(layer, x, edges.nonzero().T.flip(0))
    assert torch.allclose(ours, theirs, atol=1e-5)
    for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("draw", NEGATIVES)
def test_log_q_is_how_often_an_item_is_drawn(draw: str) -> None:
    """But for hard ones, whose draw depends on the embeddings. What nobody chose is never drawn."""
    popularity = torch.tensor([100, 10, 1, 0])
    batch = torch.repeat_interleave(torch.arange(4), popularity)
    sampler = Sampler(popularity, draw, seed=0)
    drawn = sampler.draw(batch, 40_000, torch.rand(4, 3))
    times = torch.bincount(drawn.item, minlength=4)
    assert int(times[3]) == 0
    if draw != "hard":
        expected = torch.full((4,), NAN).scatter(0, drawn.item, drawn.log_q.exp())
        assert torch.allclose(times[:3].float(), expected[:3], rtol=0.15, atol=30)


def test_hard_negatives_are_the_nearest_of_what_was_drawn() -> None:
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    drawn = Sampler(torch.ones(4), "hard", seed=0).draw(torch.tensor([0]), 8, items, pool=4)
    assert set(drawn.item.tolist()) <= {0, 1}


def test_visits_are_shares_of_the_nearest() -> None:
    view = whole(hetero_graph(until=60))
    found = visits(view, walks=200, steps=2, most=2, seed=0)
    assert torch.allclose(found.to_dense().sum(1), torch.ones(5))
    assert int((found.to_dense() > 0).sum(1).max()) <= 2
    assert found.to_dense().diagonal().sum() == 0
    assert torch.equal(found.to_dense(), visits(view, 200, 2, 2, 0).to_dense())


def test_a_neighbourhood_holds_its_seeds_and_no_more_neighbours_than_asked_for() -> None:
    view = whole(hetero_graph(until=60))
    near = lazily("tgn.family.sampling:neighbourhood")(
        view, torch.tensor([0]), layers=1, fan_out=1, random=np.random.default_rng(0)
    )
    assert 0 in near.node.tolist()
    assert len(near.node) == 2
    assert near.weight.values().tolist() == [1, 1]


def test_partitions_hold_every_node_once() -> None:
    view = whole(hetero_graph(until=60))
    parts = lazily("tgn.family.sampling:partitions")(view, 2)
    assert sorted(torch.cat([p.node for p in parts]).tolist()) == [0, 1, 2, 3, 4]
