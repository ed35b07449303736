"""Items that a user did not choose, for the losses: one set of M for a whole batch, shared by its edges."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Draw = Literal["uniform", "popularity", "in-batch", "hard", "mixed"]
DRAWS: tuple[Draw, ...] = get_args(Draw)
POWER = 0.75  # of popularity, as in word2vec


class Negatives(NamedTuple):
    """M drawn items."""

    item: Tensor  # [M] int64
    log_q: Tensor  # [M] ln of the expected number of draws of each


class Sampler:
    """Draws negatives.

    Args:
        popularity: [I] interactions of each item.
        draw: `uniform` over the items that have any; `popularity`: by its power of 0.75; `in-batch`: the items of the
            batch; `hard`: those nearest to the batch's items, out of a few times as many uniform ones; `mixed`: a half
            uniform, a half in-batch (Yang et al. 2020).
    """

    def __init__(self, popularity: Tensor, draw: Draw, seed: int) -> None:
        self._draw: Draw = draw
        self._random = torch.Generator().manual_seed(seed)
        known = popularity > 0
        self._uniform = known.double() / known.sum()
        raised = popularity.double() ** POWER * known
        self._popular = raised / raised.sum()
        self._share = popularity.double() / popularity.sum()

    def draw(self, batch: Tensor, number: int, items: Tensor, pool: int = 1) -> Negatives:
        """Negatives for a batch of items [B]; items [I, D]: embeddings, which `hard` looks at.

        pool: of how many times as many `hard` ones are chosen: the curriculum makes it grow.
        """
        if self._draw == "mixed":
            half = number // 2
            parts = [self._drawn("uniform", batch, number - half), self._drawn("in-batch", batch, half)]
            item = torch.cat([part.item for part in parts])
            expected = (number - half) * self._uniform + half * self._share
            return Negatives(item, expected[item].log().float())
        if self._draw == "hard":
            return self._hard(batch, number, items, pool)
        return self._drawn(self._draw, batch, number)

    def _drawn(self, draw: Draw, batch: Tensor, number: int) -> Negatives:
        if draw == "in-batch":
            item = batch[torch.randint(len(batch), (number,), generator=self._random)]
            return Negatives(item, (number * self._share[item]).log().float())
        share = self._popular if draw == "popularity" else self._uniform
        item = torch.multinomial(share, number, replacement=True, generator=self._random)
        return Negatives(item, (number * share[item]).log().float())

    def _hard(self, batch: Tensor, number: int, items: Tensor, pool: int) -> Negatives:
        """Those of a larger uniform pool that are nearest to any of the batch's items."""
        drawn = self._drawn("uniform", batch, number * max(pool, 1))
        with torch.no_grad():
            nearness = items[drawn.item] @ items[batch].T
            kept = nearness.amax(1).topk(number).indices.cpu()
        return Negatives(drawn.item[kept], drawn.log_q[kept])
