"""How a sequence model is trained on windows of users' items, under a form that validation chooses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from streamer.evaluation.peers.popularity import gain

LENGTH = 50  # L: items of a user that the encoder reads
NEGATIVES = 2_048  # of a sampled softmax, the same for a batch


class Form(NamedTuple):
    """What may differ from stream to stream."""

    whole: bool  # softmax over all items that are known, or over drawn ones, corrected by logQ
    dropout: float

    def __str__(self) -> str:
        return f"{'whole' if self.whole else 'sampled'} softmax, dropout {self.dropout}"


class Encoder(nn.Module, ABC):
    """Reads items [B, L] (int64), gives what is wanted after each: [B, L, D], to be multiplied with `items.weight`."""

    def __init__(self, items: int, size: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items, size)
        nn.init.normal_(self.items.weight, std=size**-0.5)

    @abstractmethod
    def forward(self, taken: torch.Tensor) -> torch.Tensor: ...


class Training:
    """An encoder that learns to predict each next item.

    Args: make: an encoder of a form; batch: positions at a time; rate: Adam's.
    """

    def __init__(self, make: Callable[[Form], Encoder], form: Form, seed: int, batch: int, rate: float) -> None:
        torch.manual_seed(seed)
        self.form, self.encoder = form, make(form)
        self._batch, self._seed = batch, seed
        self._optimiser = torch.optim.Adam(self.encoder.parameters(), rate)
        self._random = torch.Generator().manual_seed(seed)

    def passes(self, windows: list[list[int]], counts: np.ndarray, most: int) -> Iterator[int]:
        """Makes at most so many passes over the windows, yields the number of each as it ends.

        counts: [items] how often each was taken, 0: not known.
        """
        windows = [window for window in windows if len(window) > 1]
        known = torch.from_numpy(np.flatnonzero(counts))
        count = torch.from_numpy(counts)[known].double()
        drawn_with = (count / count.sum() + 1 / len(known)) / 2  # Q: half as they are popular, half evenly
        torch.manual_seed(self._seed)  # of dropout
        for number in range(1, most + 1):
            self.encoder.train()
            for taken in _batches(windows, self._batch, self._random):
                loss = self._loss(taken, known, drawn_with)
                self._optimiser.zero_grad()
                loss.backward()
                self._optimiser.step()
            yield number

    def wanted(self, taken: Sequence[list[int]]) -> torch.Tensor:
        """[B, D] after the last of what each user took, one item or more, oldest first."""
        read = [items[-LENGTH:] for items in taken]
        self.encoder.eval()
        with torch.no_grad():
            wanted: torch.Tensor = self.encoder(_padded(read).clamp(min=0))
            return wanted[torch.arange(len(read)), torch.tensor([len(items) - 1 for items in read])]

    def quality(self, asked: Sequence[tuple[list[int], int]], counts: np.ndarray, exclude_seen: bool) -> float:
        """Mean NDCG@10 of (what the user took before, the item); an item that is not known yet is a miss."""
        total, unknown = 0.0, torch.from_numpy(counts == 0)
        for first in range(0, len(asked), 256):
            before, item = zip(*asked[first : first + 256], strict=True)
            score = (self.wanted(before) @ self.encoder.items.weight.T).masked_fill(unknown, -torch.inf)
            for row, taken in enumerate(before if exclude_seen else ()):
                score[row, taken] = -torch.inf
            own = score.gather(1, torch.tensor(item)[:, None])
            ranks = (score >= own).sum(1)[own[:, 0] > -torch.inf]
            total += sum(map(gain, ranks.tolist()))
        return total / max(1, len(asked))

    def _loss(self, taken: torch.Tensor, known: torch.Tensor, drawn_with: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the next items. taken: [B, ≤ L + 1], −1 where a window has ended; known, drawn_with: [N]."""
        truth = taken[:, 1:]
        real = truth >= 0
        wanted = self.encoder(taken[:, :-1].clamp(min=0))[real]  # [P, D]
        target = truth[real]  # [P]
        weight = self.encoder.items.weight
        if self.form.whole:
            unknown = torch.full((len(weight),), -torch.inf).index_fill_(0, known, 0)
            return nn.functional.cross_entropy(torch.addmm(unknown, wanted, weight.T), target)
        drawn = torch.multinomial(drawn_with, NEGATIVES, replacement=True, generator=self._random)
        missed = torch.addmm(-(NEGATIVES * drawn_with[drawn]).log().float(), wanted, weight[known[drawn]].T)
        missed = missed.masked_fill(known[drawn] == target[:, None], -torch.inf)
        hit = (wanted * weight[target]).sum(1, keepdim=True)
        return nn.functional.cross_entropy(torch.cat([hit, missed], 1), torch.zeros_like(target))


def windows_of(taken: list[int]) -> list[list[int]]:
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
            yield _padded(chosen)


def _padded(rows: Sequence[list[int]]) -> torch.Tensor:
    """[rows, longest] int64, −1 after the end of each."""
    padded = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for to, row in zip(padded, rows, strict=True):
        to[: len(row)] = row
    return torch.from_numpy(padded)
