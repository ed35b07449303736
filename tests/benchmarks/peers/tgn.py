"""TGN from torch_geometric's parts (Rossi et al. 2020): GRU memory, attention over the last neighbours, no features."""

import numpy as np
import torch
from torch import nn
from torch_geometric.nn import TGNMemory, TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader

from streamer.evaluation.peers.contract import DAY_MS, World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity

BATCH = 200  # events that training hides from one another, as in the published protocol
NEIGHBOURS = 10
RATE = 5e-4


class Network(nn.Module):
    """Memory, embedding of a node from memory and edges, and the score of a pair: w·relu(A z_u + B z_i)."""

    def __init__(self, nodes: int, size: int) -> None:
        super().__init__()
        message = IdentityMessage(1, size, size)
        self.memory = TGNMemory(nodes, 1, size, size, message_module=message, aggregator_module=LastAggregator())
        self.attention = TransformerConv(size, size // 2, heads=2, dropout=0.1, edge_dim=1 + size)
        self.of_user, self.of_item, self.score = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, 1)

    def embed(self, nodes: torch.Tensor, neighbours: LastNeighborLoader, t: torch.Tensor) -> torch.Tensor:
        """[N] distinct, sorted nodes → [N, D]. t: [events] seconds of each event that `neighbours` may name."""
        n_id, edges, event = neighbours(nodes)
        z, last_update = self.memory(n_id)
        since = (last_update[edges[0]] - t[event]).to(z.dtype)
        z = self.attention(z, edges, torch.cat([self.memory.time_enc(since), torch.ones(len(event), 1)], 1))
        return z[torch.searchsorted(n_id, nodes)]

    def pair(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """[..., D] of `of_user` and of `of_item`, broadcast → [...] scores."""
        out: torch.Tensor = self.score((user + item).relu())[..., 0]
        return out


class TGN(DecayedPopularity):
    """Trained like torch_geometric's example (one uniform negative, batches of 200): two passes over everything before
    the first fit, then, where it may go on learning, one pass over the events since the last refit, daily.

    State goes on at every event. A refit takes the state back to where the last one left it, memory and pending
    messages included, and goes through the events since in training mode: no event trains twice, none is skipped.
    """

    refit_every_ms = DAY_MS

    def __init__(self, world: World, size: int = 100, passes: int = 2) -> None:
        super().__init__(world)
        torch.manual_seed(world.seed)
        nodes = world.users + world.items
        self._network = Network(nodes, size)
        self._neighbours = LastNeighborLoader(nodes, NEIGHBOURS)
        self._optimiser = torch.optim.Adam(self._network.parameters(), RATE)
        self._random = torch.Generator().manual_seed(world.seed)
        self._passes = passes
        self._seconds = torch.zeros(1024, dtype=torch.int64)  # [≥ events] since the first event
        self._taken_in = 0  # events in the state
        self._trained = 0  # events trained on
        self._after_training = self._state()
        self._items = torch.zeros(world.items, size)  # `of_item` of their embeddings
        self._embedded = False  # whether `_items` is that of the present state, up to events not taken in yet

    def observe(self, user: int, item: int, t: int) -> None:
        super().observe(user, item, t)
        if len(self.history) > len(self._seconds):
            self._seconds = torch.cat([self._seconds, torch.zeros_like(self._seconds)])
        self._seconds[len(self.history) - 1] = (t - self._origin) // 1000

    def refit(self, now: int) -> None:
        self._network.train()
        if not self._trained:
            super().refit(now)
            for _ in range(self._passes):
                self._network.memory.reset_state()
                self._neighbours.reset_state()
                self._train(0)
        else:
            self._restore(self._after_training)
            self._train(self._trained)
        self._after_training = self._state()
        self._taken_in = self._trained = len(self.history)
        with torch.no_grad():
            self._network.eval()  # torch_geometric takes pending messages into the memory here
        self._embedded = False

    def described(self) -> str:
        return f"{self._passes} passes, 1 a refit"

    @torch.no_grad()
    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        if not self.taken(user):
            return super().recommend(user, now, k)
        self._take_in()
        network = self._network
        wanted = network.of_user(self._embed(torch.tensor([user])))
        return top_k(network.pair(wanted, self._items).numpy(), self.popular(), self.allowed(user), k)

    def _take_in(self) -> None:
        """Moves the state over the events observed since, and embeds the items whose embedding that changed.

        Exact: an item's embedding reads its own memory and that of its neighbours, so the items of these events and the
        neighbours of their users are all.
        """
        first = self._taken_in
        while self._taken_in < len(self.history):
            start, self._taken_in = self._taken_in, min(self._taken_in + BATCH, len(self.history))
            self._advance(*self._events(start, self._taken_in))
        if self._embedded and first == self._taken_in:
            return
        user, item, _ = self._events(first, self._taken_in)
        changed = torch.from_numpy(self._known).bool()
        if self._embedded:
            near, event = (x[self.world.users :] for x in (self._neighbours.neighbors, self._neighbours.e_id))
            changed = (torch.isin(near, user) & (event >= 0)).any(1)
            changed[item - self.world.users] = True
        items, self._embedded = changed.nonzero()[:, 0], True
        if len(items):
            self._items[items] = self._network.of_item(self._embed(items + self.world.users))

    def _train(self, first: int) -> None:
        known = torch.from_numpy(np.flatnonzero(self._known)) + self.world.users
        for start in range(first, len(self.history), BATCH):
            user, item, t = self._events(start, min(start + BATCH, len(self.history)))
            negative = known[torch.randint(len(known), (len(user),), generator=self._random)]
            nodes = torch.cat([user, item, negative]).unique()
            z = self._embed(nodes)
            of_user = self._network.of_user(z[torch.searchsorted(nodes, user)])
            both = torch.stack([torch.searchsorted(nodes, item), torch.searchsorted(nodes, negative)])
            scores = self._network.pair(of_user, self._network.of_item(z[both]))  # [2, B]: taken, negative
            truth = torch.tensor([[1.0], [0.0]]).expand_as(scores)
            loss = nn.functional.binary_cross_entropy_with_logits(scores, truth)
            self._optimiser.zero_grad()
            self._advance(user, item, t)
            loss.backward()
            self._optimiser.step()
            self._network.memory.detach()

    def _advance(self, user: torch.Tensor, item: torch.Tensor, t: torch.Tensor) -> None:
        self._network.memory.update_state(user, item, t, torch.ones(len(user), 1))
        self._neighbours.insert(user, item)

    def _embed(self, nodes: torch.Tensor) -> torch.Tensor:
        return self._network.embed(nodes, self._neighbours, self._seconds)

    def _events(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Users' and items' nodes and seconds of some events, [stop − start] each."""
        user, item = (torch.from_numpy(column[start:stop].copy()) for column in (self.history.user, self.history.item))
        return user, item + self.world.users, self._seconds[start:stop]

    def _state(self) -> tuple[object, ...]:
        memory, near = self._network.memory, self._neighbours
        tensors = (memory.memory, memory.last_update, near.neighbors, near.e_id)
        return (*(x.clone() for x in tensors), near.cur_e_id, dict(memory.msg_s_store), dict(memory.msg_d_store))

    def _restore(self, state: tuple[object, ...]) -> None:
        memory, near = self._network.memory, self._neighbours
        tensors = (memory.memory, memory.last_update, near.neighbors, near.e_id)
        for tensor, kept in zip(tensors, state[:4], strict=True):
            tensor.copy_(kept)
        near.cur_e_id = state[4]
        memory.msg_s_store, memory.msg_d_store = dict(state[5]), dict(state[6])  # type: ignore[call-overload]
