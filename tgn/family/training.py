"""Training an encoder on a graph: batches of what users chose against what they did not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch_geometric.data import HeteroData

from tgn.family.encoder import INITIAL_SCALE, Encoder, rows
from tgn.family.losses import Loss, bpr, infonce, multitask, sampled_softmax
from tgn.family.negatives import Draw, Negatives, Sampler
from tgn.family.sampling import neighbourhood, partitions
from tgn.family.spectral import spectral_names
from tgn.family.view import RELATIONS, ChosenItems, GraphView, gather_history, places, whole

SHORTEST = 1e-8  # a length that is divided by


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. A pass is once over all edges."""

    loss: Loss = "softmax"
    negatives: Draw = "uniform"
    drawn: int = 512  # negatives of a batch
    temperature: float = 0.1  # what the scores of softmax and infonce are divided by; bpr takes inner products
    length: float = 0.6  # how much of an item's length counts in those scores, 0: cosines, 1: all; see `_scaled`
    shrink: float = 0.2  # of the squared lengths of the names at an edge is added to its loss, except to bpr's
    spectral: bool = True  # names begin as eigenvectors, else at random
    batch: int = 4_096  # edges
    rate: float = 0.01  # of the first pass
    falling: float = 0.85  # what is left of it a pass later
    passes: int = 30
    patience: int = 3  # passes without a better recall on the held-out edges before it ends; 0: never
    held_out: float = 0.05  # share of the edges, the last in time, that are trained on only where patience is 0
    history: int = 10  # R: items of a user that a model of sessions reads
    relations: tuple[str, ...] = RELATIONS
    tasks: tuple[float, ...] | None = None  # weight of each event type as a task; None: every edge counts the same
    fan_out: int | None = None  # neighbours a node and step; None: the whole graph at every batch
    parts: int = 1  # partitions, one a batch
    device: str = "cpu"  # where `fit` computes; on others sums come in any order, so that bytes differ from run to run
    seed: int = 0


@dataclass
class Report:
    """What happened pass by pass."""

    loss: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)  # at 20, of the held-out edges
    best: int = 0  # the pass whose weights were kept


class Embedded(NamedTuple):
    """What a trained model says of the nodes; a list is ordered by inner products."""

    user: Tensor  # [U, D]
    item: Tensor  # [I, D]


class Trainer:
    """Trains `encoder` on `data`. Goes on where `load_state` left off.

    With patience the last edges in time are held out: of the graph too, until all is learned. In a process group of
    torch.distributed each process takes its share of every batch, and the gradients are averaged.
    """

    def __init__(self, encoder: Encoder, data: HeteroData, config: TrainingConfig) -> None:
        self.encoder, self.config = encoder, config
        self.history = gather_history(data)
        self._train, self.held_out = _split(self.history, config.held_out if config.patience else 0.0)
        self.whole = whole(data, config.relations)
        self.view = self.whole  # what is trained on
        if len(self.held_out):
            self.view = whole(data, config.relations, before=int(self.history.time[self.held_out].min()))
        self.report = Report()
        self._optimiser = torch.optim.Adam(encoder.parameters(), config.rate)
        if config.spectral:
            with torch.no_grad():
                encoder.name.weight.copy_(spectral_names(self.view, encoder.name.embedding_dim, INITIAL_SCALE))
        self._kept = {name: value.clone() for name, value in encoder.state_dict().items()}
        self._popularity = torch.bincount(self.history.item[self._train], minlength=self.view.items)
        self._parts = partitions(self.view, config.parts) if config.parts > 1 else []

    @property
    def passes(self) -> int:
        """How many are done."""
        return len(self.report.loss)

    def fit(self, advance: Callable[[int], None] = lambda passes: None) -> Report:
        """Passes until there are enough or nothing gets better; the best weights are kept.

        Without patience those of the last pass.
        """
        config, report = self.config, self.report
        self.encoder.to(config.device)
        while self.passes < config.passes and not self._is_over():
            report.loss.append(self._pass())
            if config.patience:
                report.recall.append(self.recall(self.held_out))
            if not config.patience or report.recall[-1] == max(report.recall):
                report.best = self.passes
                self._kept = {name: value.clone() for name, value in self.encoder.state_dict().items()}
            advance(1)
        self.encoder.load_state_dict(self._kept)
        self.encoder.to("cpu")
        return report

    def _is_over(self) -> bool:
        return 0 < self.config.patience <= self.passes - self.report.best

    @torch.no_grad()
    def embedded(self) -> Embedded:
        """Every user and item by the present weights and the whole graph."""
        x = self.encoder(self._prepared(self.whole))
        first, end = self.view.users, self.view.users + self.view.items
        user = self._users(x, torch.arange(first), self.history.last(first, self.config.history))
        return Embedded(user, self._scaled(x[first:end], self.config.length))

    @torch.no_grad()
    def recall(self, edges: Tensor, k: int = 20, most: int = 2_000) -> float:
        """The share of `edges` [E], places in the history, whose item is among the first k; `most` are ranked.

        By the graph that is trained on, which holds no held-out edge. 0 where there are no edges.
        """
        chosen = edges[:: max(1, len(edges) // most)]
        if not len(chosen):
            return 0.0
        x = self.encoder(self._prepared(self.view))
        user = self._users(x, self.history.user[chosen], self.history.before(chosen, self.config.history))
        item = x[self.view.users : self.view.users + self.view.items]
        score = user @ self._scaled(item, self.config.length).T
        target = score.gather(1, self.history.item[chosen].unsqueeze(1).to(score.device))
        return float(((score >= target).sum(1) <= k).float().mean())  # ties count against it

    def state(self) -> dict[str, Tensor]:
        """All that `load_state` of another trainer of the same graph needs to go on."""
        tensors = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        tensors |= {f"kept.{name}": value for name, value in self._kept.items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
        tensors["report.loss"] = torch.tensor(self.report.loss, dtype=torch.float64)
        tensors["report.recall"] = torch.tensor(self.report.recall, dtype=torch.float64)
        tensors["report.best"] = torch.tensor(self.report.best)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Raises KeyError or RuntimeError where they are of another model."""
        self.encoder.load_state_dict(_under(tensors, "encoder."))
        self._kept = read_best_weights(tensors)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimiser.").items():
            number, _, moment = name.partition(".")
            state.setdefault(int(number), {})[moment] = value
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": state})
        report = _under(tensors, "report.")
        self.report = Report(report["loss"].tolist(), report["recall"].tolist(), int(report["best"]))

    def _pass(self) -> float:
        """Once over the edges, in a new order; the mean loss. What is drawn depends on seed and pass alone."""
        config, number = self.config, self.passes
        random, neighbours = (
            np.random.default_rng(key) for key in ((config.seed, number), (config.seed, number, _rank()))
        )
        for group in self._optimiser.param_groups:
            group["lr"] = config.rate * config.falling**number
        sampler = Sampler(self._popularity, config.negatives, config.seed * 100_003 + number)
        total, counted = 0.0, 0
        for view, edges in self._batches(random):
            item = self.history.item[edges]
            negative = sampler.draw(item, config.drawn, self.encoder.name.weight[self.view.users :], number + 1)
            if config.fan_out:
                view = self._around(edges, negative, neighbours)
            losses = self._losses(view, edges, negative)
            loss = losses.mean()
            if config.tasks is not None:
                kinds, weight = self.history.kind[edges], torch.tensor(config.tasks)
                loss = multitask(losses, kinds.to(losses.device), weight.to(losses.device))
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            _average(self.encoder)
            self._optimiser.step()
            total += float(loss.detach()) * len(edges)
            counted += len(edges)
        return total / max(counted, 1)

    def _batches(self, random: np.random.Generator) -> Iterator[tuple[GraphView, Tensor]]:
        """Views and the edges to train on with each: places in the history [B], of this process' share."""
        for seen in self._parts or [self.view]:
            view = seen if self.config.fan_out else self._prepared(seen)
            edges = self._train[self._among(seen, self._train)]
            shuffled = edges[torch.from_numpy(random.permutation(len(edges)))]
            for batch in torch.split(shuffled, self.config.batch):
                if len(batch) >= _processes():  # every process has a share of it, or none: they wait for one another
                    yield view, batch[_rank() :: _processes()]

    def _among(self, view: GraphView, edges: Tensor) -> Tensor:
        """[E] whether both ends of an edge are in a part."""
        there = self._places(view) >= 0
        return there[self.history.user[edges]] & there[self.view.users + self.history.item[edges]]

    def _around(self, edges: Tensor, negative: Negatives, random: np.random.Generator) -> GraphView:
        items = torch.cat([self.history.item[edges], negative.item]) + self.view.users
        seeds = torch.unique(torch.cat([self.history.user[edges], items]))
        assert self.config.fan_out is not None
        return self._prepared(neighbourhood(self.view, seeds, self.encoder.layers, self.config.fan_out, random))

    def _losses(self, view: GraphView, edges: Tensor, negative: Negatives) -> Tensor:
        """The loss of each edge [B]; what is not in a part is no negative there."""
        config, history = self.config, self.history
        x, place = self.encoder(view), self._places(view)
        drawn = place[self.view.users + negative.item]
        x_negative, log_q = rows(x, drawn[drawn >= 0]), negative.log_q[drawn >= 0].to(x.device)
        x_user = self._users(x, place[history.user[edges]], history.before(edges, config.history))
        x_item = rows(x, place[self.view.users + history.item[edges]])
        x_item, x_negative = (self._scaled(those, config.length) for those in (x_item, x_negative))
        score, other = (x_user * x_item).sum(1), x_user @ x_negative.T
        if config.loss == "bpr":
            return bpr(score, other)
        score, other = score / config.temperature, other / config.temperature
        losses = infonce(score, other) if config.loss == "infonce" else sampled_softmax(score, other, log_q)
        return losses + config.shrink * self._lengths(edges)

    def _lengths(self, edges: Tensor) -> Tensor:
        """[B] squared lengths of the names at both ends of each edge."""
        ends = (self.history.user[edges], self.view.users + self.history.item[edges])
        user, item = (rows(self.encoder.name.weight, end).square().sum(1) for end in ends)
        return user + item

    def _users(self, x: Tensor, user: Tensor, history: Tensor) -> Tensor:
        """See `Encoder.users`, as scores want them; history: [B, R] numbers of items, −1 where there is none."""
        row = torch.where(history >= 0, history + self.view.users, -1)
        return self._scaled(self.encoder.users(x, user, row.to(x.device)), 0)

    def _scaled(self, x: Tensor, length: float) -> Tensor:
        """x / |x|^(1 − length). The length of an item is how popular it is; a cosine alone forgets that."""
        if self.config.loss == "bpr":
            return x
        scaled: Tensor = x / x.norm(dim=1, keepdim=True).clamp(min=SHORTEST) ** (1 - length)
        return scaled

    def _places(self, view: GraphView) -> Tensor:
        """[N] the row of each node of the whole in a view, −1 where it is not there."""
        return places(view.node, len(self.view.node))

    def _prepared(self, view: GraphView) -> GraphView:
        return self.encoder.prepare(view, self.config.seed + self.passes).on(self.encoder.name.weight.device)


def read_best_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights of the best pass, out of a trainer's `state`."""
    return _under(state, "kept.")


def _split(history: ChosenItems, share: float) -> tuple[Tensor, Tensor]:
    """Places of the edges that are trained on, and of the last ones in time, which are held out."""
    order = history.time.argsort(stable=True)
    first = len(order) - int(len(order) * share)
    if first < len(order):  # those of one moment are held out together
        first = int(torch.searchsorted(history.time[order], history.time[order[first]]))
    return order[:first], order[first:]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _average(encoder: Encoder) -> None:
    """Gives every process the mean of all gradients."""
    if _processes() > 1:
        for parameter in encoder.parameters():
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            torch.distributed.all_reduce(gradient)
            parameter.grad = gradient / _processes()
