"""A model of the graph family by itself: the embeddings of the newest version, the same for every list until the next."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.embeddings.registry import NodeVectors, read_version, versions
from streamer.evaluation.peers.contract import World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity


class Family(DecayedPopularity):
    """u·v of what was trained until now; whom the version does not know gets decayed popularity.

    Args: users, items: the ids by index; folder: of versions that were trained beforehand, each on what came before its
    `until_ms`.
    """

    refit_every_ms = None  # a version is taken up at the first list after its `until_ms`

    def __init__(self, world: World, users: Sequence[str], items: Sequence[str], folder: Path) -> None:
        super().__init__(world)
        self._ids, self._folder = (users, items), folder
        self._versions = versions(folder)
        self._until = [manifest["until_ms"] for manifest in self._versions]
        self._current = 0  # versions, of those in time order
        self._user = self._item = np.zeros((0, 0), np.float32)
        self._has_item = np.zeros(0, np.uint8)

    def described(self) -> str:
        return f"{len(self._versions)} versions"

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        past = bisect_right(self._until, now)
        if past > self._current:
            self._take(self._versions[past - 1]["version"])
            self._current = past
        if not self._current or not self._user[user].any():
            return super().recommend(user, now, k)
        return top_k(self._item @ self._user[user], self.popular(), self.allowed(user) * self._has_item, k)

    def _take(self, version: str) -> None:
        sides = read_version(self._folder, version)
        self._user, self._item = (_rows(ids, side) for ids, side in zip(self._ids, sides, strict=True))
        self._has_item = self._item.any(1).astype(np.uint8)


def _rows(ids: Sequence[str], vectors: NodeVectors) -> np.ndarray:
    """[ids, D] the vector of each id, 0 where it has none."""
    place = {id_: row for row, id_ in enumerate(ids)}
    rows = np.zeros((len(ids), vectors.vector.shape[1]), np.float32)
    rows[[place[id_] for id_ in vectors.ids]] = vectors.vector
    return rows
