"""What GRU4Rec and SASRec share: a form of training chosen on each stream's own past, daily refits that start warm."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from streamer.evaluation.peers.contract import DAY_MS, World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity, choice_events
from tests.benchmarks.peers.sequence_training import LENGTH, Encoder, Form, Training, windows_of

WHOLE_SOFTMAX_BELOW = 4_000  # items: where drawing them would save nothing
CHANGES: tuple[dict[str, Any], ...] = ({"dropout": 0.5}, {"whole": True})  # cheap ones first
ASKED = 2_000  # at most so many of the events that settings are chosen by, evenly spaced
PATIENCE = 2  # passes in a row that bring nothing end a trial


class SequencePeer(DecayedPopularity):
    """Scores ⟨encoder(the user's last L items), embedding of z⟩; the encoder is trained to predict each next item.

    At the first fit forms are trained on what came before the last tenth, and asked for that tenth: a plain one, then
    one change after the other, of which those stay that raise NDCG@10. A trial makes passes until that rises no more,
    at most as many as `positions` allows, within `passes`. The best form is then trained on everything, with as many
    passes as were best. A refit makes one pass over the last window of the users who acted since. Items that no
    training position had yet stand behind all others, by popularity; users without history get decayed popularity.
    """

    refit_every_ms = DAY_MS

    def __init__(
        self,
        world: World,
        make: Callable[[Form], Encoder],
        positions: int = 1_500_000,
        passes: tuple[int, int] = (3, 40),
        batch: int = 1024,  # positions
        rate: float = 1e-3,
    ) -> None:
        super().__init__(world)
        self._training_of = lambda form: Training(make, form, world.seed, batch, rate)
        self._plain = Form(whole=world.items <= WHOLE_SOFTMAX_BELOW, dropout=0.2)
        self._training = self._training_of(self._plain)
        self._positions, self._passes = positions, passes
        self._counts = np.zeros(world.items, np.int64)  # of each item, in what a fit has seen
        self._learned = 0  # events that a fit has seen
        self._made_passes = 0

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        taken = self.taken(user)
        if not taken:
            return super().recommend(user, now, k)
        with torch.inference_mode():
            score = (self._training.encoder.items.weight @ self._training.wanted([taken])[0]).numpy()
        return top_k(np.where(self._counts > 0, score, -np.inf), self.popular(), self.allowed(user), k)

    def refit(self, now: int) -> None:
        users = np.unique(self.history.user[self._learned :]).tolist()
        self._counts = np.bincount(self.history.item, minlength=self.world.items)
        if self._learned:
            windows, passes = [self.taken(user)[-LENGTH - 1 :] for user in users], 1
        else:
            super().refit(now)
            form, passes = self._chosen()
            self._training, self._made_passes = self._training_of(form), passes
            windows = _windows(self._taken.values())
        self._learned = len(self.history)
        for _ in self._training.passes(windows, self._counts, passes):
            pass

    def described(self) -> str:
        return f"{self._training.form}, {self._made_passes} passes, 1 a refit"

    def _chosen(self) -> tuple[Form, int]:
        """The form with the best NDCG@10 over the last tenth, and its passes."""
        ranked = choice_events(len(self.history))
        ranked = ranked[:: max(1, len(ranked) // ASKED)]
        first = int(ranked[0])
        counts = np.bincount(self.history.item[:first], minlength=self.world.items)
        taken: dict[int, list[int]] = {}
        _take(taken, self.history.user[:first], self.history.item[:first])
        windows = _windows(taken.values())
        asked = self._asked(taken, ranked)
        form = self._plain
        best = self._tried(form, windows, counts, asked)
        for change in CHANGES:
            other = form._replace(**change)
            if other != form and (found := self._tried(other, windows, counts, asked))[0] > best[0]:
                best, form = found, other
        return form, best[1]

    def _asked(self, taken: dict[int, list[int]], ranked: np.ndarray) -> list[tuple[list[int], int]]:
        """What the user had taken and the item, of each event to rank. taken: before the first of them; moves on."""
        asked = []
        for start, stop in zip(ranked, [*ranked[1:], len(self.history)], strict=True):
            before, item = taken.get(int(self.history.user[start]), []), int(self.history.item[start])
            if before and not (self.world.exclude_seen and item in before):
                asked.append((before.copy(), item))
            _take(taken, self.history.user[start:stop], self.history.item[start:stop])
        return asked

    def _tried(
        self, form: Form, windows: list[list[int]], counts: np.ndarray, asked: list[tuple[list[int], int]]
    ) -> tuple[float, int]:
        """NDCG@10 of a form, and after how many passes."""
        training = self._training_of(form)
        most = int(np.clip(self._positions // max(1, sum(map(len, windows)) - len(windows)), *self._passes))
        best = (-1.0, 0)
        for passes in training.passes(windows, counts, most):
            best = max(
                best, (training.quality(asked, counts, self.world.exclude_seen), passes), key=lambda tried: tried[0]
            )
            if passes >= self._passes[0] and passes - best[1] >= PATIENCE:
                break
        return best


def _take(taken: dict[int, list[int]], user: np.ndarray, item: np.ndarray) -> None:
    for u, i in zip(user.tolist(), item.tolist(), strict=True):
        taken.setdefault(u, []).append(i)


def _windows(users: Iterable[list[int]]) -> list[list[int]]:
    return [window for taken in users for window in windows_of(taken)]
