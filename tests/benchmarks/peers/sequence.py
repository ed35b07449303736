"""What GRU4Rec and SASRec share: windows of users' items, softmax over the catalogue, daily refits that start warm."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from streamer.evaluation.peers.contract import DAY_MS, World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity

LENGTH = 50  # L: items of a user that the encoder reads
WHOLE_SOFTMAX_BELOW = 4_000  # larger catalogues are trained on NEGATIVES drawn items, the same for a batch
NEGATIVES = 2_048


class Encoder(nn.Module, ABC):
    """Reads items [B, L] (int64), gives what is wanted after each: [B, L, D], to be multiplied with `items.weight`."""

    def __init__(self, items: int, size: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items, size)
        nn.init.normal_(self.items.weight, std=size**-0.5)

    @abstractmethod
    def forward(self, taken: torch.Tensor) -> torch.Tensor: ...


class SequencePeer(DecayedPopularity):
    """Scores ⟨encoder(the user's last L items), embedding of z⟩; the encoder is trained to predict each next item.

    The first fit makes as many passes as `positions` allows, within `passes`; a refit makes one pass over the last
    window of the users who acted since. Items that no training position had yet stand behind all others, by popularity;
    users without history get decayed popularity.
    """

    refit_every_ms = DAY_MS

    def __init__(
        self,
        world: World,
        encoder: Encoder,
        positions: int = 1_500_000,
        passes: tuple[int, int] = (3, 20),
        batch: int = 1024,  # positions
        rate: float = 1e-3,
    ) -> None:
        super().__init__(world)
        self.encoder = encoder
        self._positions, self._passes, self._batch = positions, passes, batch
        self._optimiser = torch.optim.Adam(encoder.parameters(), rate)
        self._random = torch.Generator().manual_seed(world.seed)
        self._trained = np.zeros(world.items, bool)
        self._learned = 0  # events that a fit has seen
        self._made_passes = 0

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        taken = self.taken(user)
        if not taken:
            return super().recommend(user, now, k)
        self.encoder.eval()
        with torch.inference_mode():
            wanted = self.encoder(torch.tensor(taken[-LENGTH:])[None])[0, -1]
            score = (self.encoder.items.weight @ wanted).numpy()
        return top_k(np.where(self._trained, score, -np.inf), self.popular(), self.allowed(user), k)

    def refit(self, now: int) -> None:
        users = np.unique(self.history.user[self._learned :]).tolist()
        if self._learned:
            windows, passes = [self.taken(user)[-LENGTH - 1 :] for user in users], 1
        else:
            super().refit(now)
            windows = [window for user in users for window in _windows(self.taken(user))]
            positions = max(1, sum(map(len, windows)) - len(windows))
            passes = int(np.clip(self._positions // positions, *self._passes))
            self._made_passes = passes
        self._trained[self.history.item] = True
        self._learned = len(self.history)
        self._train([window for window in windows if len(window) > 1], passes)

    def described(self) -> str:
        return f"{self._made_passes} passes, 1 a refit"

    def _train(self, windows: list[list[int]], passes: int) -> None:
        known = torch.from_numpy(np.flatnonzero(self._known))
        self.encoder.train()
        torch.manual_seed(self.world.seed)  # of dropout
        for _ in range(passes):
            for taken in _batches(windows, self._batch, self._random):
                loss = self._loss(taken, known)
                self._optimiser.zero_grad()
                loss.backward()
                self._optimiser.step()

    def _loss(self, taken: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the next items. taken: [B, ≤ L + 1], −1 where a window has ended; known: [N] items."""
        truth = taken[:, 1:]
        real = truth >= 0
        wanted = self.encoder(taken[:, :-1].clamp(min=0))[real]  # [P, D]
        target = truth[real]  # [P]
        weight = self.encoder.items.weight
        hit = (wanted * weight[target]).sum(1, keepdim=True)
        if len(known) <= WHOLE_SOFTMAX_BELOW:
            return (torch.logsumexp(wanted @ weight[known].T, 1, keepdim=True) - hit).mean()
        drawn = known[torch.randint(len(known), (NEGATIVES,), generator=self._random)]
        missed = wanted @ weight[drawn].T + np.log(len(known) / NEGATIVES)  # each stands for as many
        missed = missed.masked_fill(drawn == target[:, None], -np.inf)
        return (torch.logsumexp(torch.cat([hit, missed], 1), 1, keepdim=True) - hit).mean()


def _windows(taken: list[int]) -> list[list[int]]:
    """Cuts a user's items into windows of at most L + 1, from the newest back; each but the first shares one item."""
    return [taken[max(0, stop - LENGTH - 1) : stop] for stop in range(len(taken), 1, -LENGTH)]


def _batches(windows: list[list[int]], tokens: int, random: torch.Generator) -> Iterator[torch.Tensor]:
    """All windows once, about `tokens` items a batch, of nearly one length, in a random order: [B, ≤ L + 1], −1 pads."""
    order = torch.randperm(len(windows), generator=random).tolist()
    order.sort(key=lambda n: len(windows[n]))  # stable: random among equals
    cuts, size = [0], 0
    for place, n in enumerate(order):
        size += len(windows[n])
        if size >= tokens:
            cuts.append(place + 1)
            size = 0
    cuts.append(len(order))
    for b in torch.randperm(len(cuts) - 1, generator=random).tolist():
        chosen = [windows[n] for n in order[cuts[b] : cuts[b + 1]]]
        if chosen:
            padded = np.full((len(chosen), len(chosen[-1])), -1, np.int64)
            for row, window in zip(padded, chosen, strict=True):
                row[: len(window)] = window
            yield torch.from_numpy(padded)
