"""Shadow: a new version of embeddings is measured on what comes before it counts.

Of each interaction with an item that both the version and the user's ring know something of: which share of a sample of
items is farther from the user's last items than the one that was chosen (the AUC of that event). The version that is in
use has the same figure on the same events and samples. A check against a version that went wrong, no evaluation: those
are `freshet replay --embeddings` and `freshet compare`.
"""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from consumers.schemas import Interaction
from streamer.embeddings.registry import Current, current
from streamer.engine.engine import Engine
from streamer.errors import EmbeddingsDamaged
from streamer.pipeline.arrivals import Arrival
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from tgn.outside_vectors import Vectors, describe, new_vectors

LOOK_EVERY_S = 1.0
EVENTS_AN_EPOCH = 32  # at most so many are measured, so that an epoch waits less than 2 ms for it
SAMPLE, LAST_ITEMS = 1_000, 8
WORSE = 0.02  # how much less of an AUC is refused
_logger = logging.getLogger(__name__)


class Shadow:
    """Finds new versions in a folder and says when to switch.

    Args:
        engine: whose ids and vectors in use are asked.
        folder: of the versions.
        events: how many a version is measured on; 0: none.
    """

    def __init__(self, engine: Engine, folder: Path, events: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._engine, self._folder, self._events, self._clock = engine, folder, events, clock
        self._look_at = clock.monotonic()
        self._current: Current | None = None  # what the folder said last
        self._waiting: Vectors | None = None  # of the items, of the version that waits
        self._sums, self._measured = np.zeros(2), 0
        self._rng = np.random.default_rng(0)
        self._said = ""

    def next(self, arrivals: Sequence[Arrival]) -> str | None:
        """The version to switch to before these arrivals are taken; None: the one in use stays."""
        if self._clock.monotonic() >= self._look_at:
            self._look_at = self._clock.monotonic() + LOOK_EVERY_S
            self._look()
        wanted = self._current
        if wanted is None or self._waiting is None:
            return None
        if wanted.shadow and self._measured < self._events:
            self._measure(self._waiting, arrivals)
            return None
        self._waiting = None
        new, old = self._sums / max(self._measured, 1)
        if wanted.shadow and self._events and new < max(old - WORSE, 0.5):
            _logger.warning(
                "embeddings %s: AUC %.3f on %d interactions, in use %.3f: refused; "
                "`freshet embeddings use %s %s` takes it",
                wanted.version, new, self._measured, old, shlex.quote(str(self._folder)), wanted.version,
            )  # fmt: skip
            return None
        if not self._is_whole(wanted.version):  # it may have waited for hours
            return None
        _logger.info("embeddings %s from here on; AUC %.3f, before %.3f", wanted.version or "off", new, old)
        return wanted.version

    def _look(self) -> None:
        model = self._engine.model
        try:
            found = current(self._folder)
            if found == self._current:
                return
            self._current, self._waiting = found, None
            if found.version != model.trained_version:
                known = self._engine.known_vectors(self._folder, found.version)
                waiting = new_vectors(len(model.items))
                describe(waiting, known.items, known.of_items)
                self._waiting, self._sums, self._measured = waiting, np.zeros(2), 0
        except EmbeddingsDamaged as error:
            self._say(error)

    def _is_whole(self, version: str) -> bool:
        try:
            self._engine.known_vectors(self._folder, version)
        except EmbeddingsDamaged as error:
            self._say(error)
            return False
        return True

    def _say(self, error: EmbeddingsDamaged) -> None:
        if str(error) != self._said:  # once, not every second
            _logger.warning("%s; the embeddings in use stay", error)
        self._said = str(error)

    def _measure(self, waiting: Vectors, arrivals: Sequence[Arrival]) -> None:
        model = self._engine.model
        for arrival in arrivals[:EVENTS_AN_EPOCH]:
            payload = arrival.payload
            if not isinstance(payload, Interaction):
                continue
            user, item = model.users.get(payload.user_id), model.items.get(payload.item_id)
            if user is None or item is None or item >= len(waiting.vector) or not waiting.vector[item].any():
                continue
            places = model.ring_places(user)[:LAST_ITEMS]
            if not places:
                continue
            ring = model.graph.users.ring_item[user, places]
            sample = self._rng.integers(0, len(waiting.vector), SAMPLE)
            figure = _auc(waiting, ring, item, sample)
            if figure is None:
                continue
            before = _auc(model.trained.item, ring, item, sample) if model.trained_version else None
            self._sums += (figure, 0.5 if before is None else before)
            self._measured += 1


def _auc(vectors: Vectors, ring: np.ndarray, item: int, sample: np.ndarray) -> float | None:
    """The share of the sample that is farther from the ring than the item, ties by half; None: nothing is known."""
    ring = ring[ring < len(vectors.vector)]
    taste = (vectors.vector[ring].astype(np.float32) / np.sqrt(1 + np.arange(len(ring)))[:, None]).sum(0)
    if not taste.any() or item >= len(vectors.vector):
        return None
    others = sample[(sample != item) & (sample < len(vectors.vector))]
    mine, theirs = vectors.vector[item] @ taste, vectors.vector[others] @ taste
    return float(((mine > theirs) + 0.5 * (mine == theirs)).mean()) if len(others) else None
