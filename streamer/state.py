"""`StreamState`: everything that a restart needs, as one value, and its way into and out of a checkpoint."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from consumers.records import TopicPartition
from consumers.weights import Means
from streamer.amendments import Amendments
from streamer.dedup import SeenEvents
from streamer.drift import DriftMonitor, new_adwin
from streamer.engine import Engine, model_config
from streamer.errors import StateUnreadable
from streamer.ledger import Ledger, Pages
from streamer.listed import PublishedLists
from streamer.quality import QualityMeter
from streamer.settings import Settings
from tgn.pages import changed_pages, load_pages

FORMAT = 9
_STREAM, _MODEL, _EVENTS, _LISTED, _LEDGER = b"stream", b"model/", b"events/", b"listed/", b"ledger/"


def _no_pages(prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
    return ()


class StreamState:
    """The model, what has been read, and what is known of it. A function of the log.

    Args: pages: reads the keys of the checkpoint with a prefix; what of it stays on disk is read when it is needed.
    """

    def __init__(self, settings: Settings, pages: Pages = _no_pages) -> None:
        self._pages = pages
        self.engine = Engine(settings)
        self.seen_events = SeenEvents(settings.dedup_window)
        self.listed = PublishedLists(settings.k)
        self.ledger = Ledger(lambda prefix: _without(_LEDGER, prefix, pages))
        self.amendments = Amendments(self.engine.model, self.ledger)
        self.erased: dict[bytes, tuple[int, dict[int, int]]] = {}  # digest of a user → when, and the offsets reached
        self.quality = QualityMeter()
        self.drift = DriftMonitor()
        self.positions: dict[TopicPartition, int] = {}  # next offset to take of each input partition
        self.epoch = 0
        self.clock_ms = 0  # latest event time taken
        self.newest_place = (0, 0)  # the last place that an interaction took in the order of all
        self.value_means: Means = {}  # of the values that event weights compare with their mean
        self.records = 0  # interactions records taken, bad ones too
        self.manifest_position = 0  # where in the epochs topic the epochs after this state begin
        self._config = asdict(model_config(settings))

    def delta(self) -> dict[bytes, bytes | None]:
        """What changed since the last call, for `Committer.commit`."""
        pages: dict[bytes, bytes | None] = {}
        for prefix, changed in (
            (_MODEL, changed_pages(self.engine.model)),
            (_EVENTS, self.seen_events.delta()),
            (_LISTED, self.listed.delta()),
            (_LEDGER, self.ledger.delta()),
        ):
            pages.update((prefix + key, value) for key, value in changed.items())
        pages[_STREAM] = msgspec.msgpack.encode(self._stream())
        return pages

    def load(self) -> bool:
        """Takes the checkpoint in; False where there is none.

        Raises StateUnreadable when it was made by another format or with another model.
        """
        stored = list(self._pages(_STREAM))
        if not stored:
            return False
        stream = msgspec.msgpack.decode(stored[0][1])
        self._check(stream)
        load_pages(self.engine.model, _without(_MODEL, b"", self._pages))
        self.seen_events.load(_without(_EVENTS, b"", self._pages))
        self.listed.load(_without(_LISTED, b"", self._pages))
        self.listed.away = set(stream.get("away", ()))
        self.ledger.restore(stream["ledger"])
        self.amendments.restore(stream["amendments"])
        self.erased = {digest: (at_ms, before) for digest, (at_ms, before) in stream["erased"].items()}
        self.newest_place = tuple(stream["newest_place"])
        self.quality.restore(stream["quality"])
        self.drift.restore(stream["drift"])
        self.value_means.update(stream.get("value_means", {}))
        self.positions = {TopicPartition(topic, p): offset for topic, p, offset in stream["positions"]}
        for name in ("epoch", "clock_ms", "records", "manifest_position"):
            setattr(self, name, stream[name])
        return True

    def warm_up(self) -> None:
        """Loads what the first interaction would wait for; changes nothing."""
        self.engine.warm_up()
        new_adwin()

    def parts(self) -> dict[str, Any]:
        """All of it but the model, in one order: equal for equal states."""
        users = np.arange(len(self.engine.model.users), dtype=np.int32)
        history = self.ledger.history(users)
        return self._counters() | {
            "events": self.seen_events.digests(),
            "listed": list(self.listed.lists().items()),
            "history": [column.tobytes() for column in history],
        }

    def _stream(self) -> dict[str, Any]:
        return self._counters() | {
            "format": FORMAT,
            "config": self._config,
            "ledger": self.ledger.state(),
            "manifest_position": self.manifest_position,
            "away": sorted(self.listed.away),
        }

    def _counters(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "clock_ms": self.clock_ms,
            "records": self.records,
            "newest_place": self.newest_place,
            "amendments": self.amendments.state(),
            "erased": self.erased,
            "positions": [(*tp, offset) for tp, offset in sorted(self.positions.items())],
            "quality": self.quality.state(),
            "drift": self.drift.state(),
            "value_means": self.value_means,
        }

    def _check(self, stream: dict[str, Any]) -> None:
        if stream["format"] != FORMAT:
            raise StateUnreadable(
                f"the state has format {stream['format']}, this version reads {FORMAT}; remove it to rebuild"
            )
        mine = msgspec.msgpack.decode(msgspec.msgpack.encode(self._config))
        other = [f"{name} = {stream['config'].get(name)}" for name in mine if mine[name] != stream["config"].get(name)]
        if other:
            raise StateUnreadable(
                f"the state was made with {', '.join(other)}; set that again, or remove the state to rebuild it"
            )


def _without(group: bytes, prefix: bytes, pages: Pages) -> Iterator[tuple[bytes, bytes]]:
    """The pages of a group whose keys begin with `prefix`, without the group's name."""
    return ((key[len(group) :], value) for key, value in pages(group + prefix))
