"""`StreamState`: everything that a restart needs, as one value, and its way into and out of a checkpoint."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import msgspec

from consumers.records import TopicPartition
from streamer.dedup import SeenEvents
from streamer.drift import DriftMonitor
from streamer.engine import Engine, model_config
from streamer.errors import StateUnreadable
from streamer.quality import QualityMeter
from streamer.settings import Settings
from tgn.pages import changed_pages, load_pages

FORMAT = 3
_STREAM, _MODEL, _EVENTS = b"stream", b"model/", b"events/"
Pages = Callable[[bytes], Iterable[tuple[bytes, bytes]]]


class StreamState:
    """The model, what has been read, and what is known of it. A function of the log."""

    def __init__(self, settings: Settings) -> None:
        self.engine = Engine(settings)
        self.seen_events = SeenEvents(settings.dedup_window)
        self.quality = QualityMeter()
        self.drift = DriftMonitor()
        self.positions: dict[TopicPartition, int] = {}  # next offset to take of each input partition
        self.epoch = 0
        self.clock_ms = 0  # latest event time taken
        self.records = 0  # interactions records taken, bad ones too
        self.manifest_position = 0  # where in the epochs topic the epochs after this state begin
        self._config = asdict(model_config(settings))

    def delta(self) -> dict[bytes, bytes | None]:
        """What changed since the last call, for `Committer.commit`."""
        pages: dict[bytes, bytes | None] = {
            _MODEL + key: value for key, value in changed_pages(self.engine.model).items()
        }
        pages.update((_EVENTS + key, value) for key, value in self.seen_events.delta().items())
        pages[_STREAM] = msgspec.msgpack.encode(self._stream())
        return pages

    def load(self, pages: Pages) -> bool:
        """Takes a checkpoint in, of which `pages` reads the keys with a prefix; False where there is none.

        Raises StateUnreadable when it was made by another format or with another model.
        """
        stored = list(pages(_STREAM))
        if not stored:
            return False
        stream = msgspec.msgpack.decode(stored[0][1])
        self._check(stream)
        load_pages(self.engine.model, _without(_MODEL, pages))
        self.seen_events.load(_without(_EVENTS, pages))
        self.quality.restore(stream["quality"])
        self.drift.restore(stream["drift"])
        self.positions = {TopicPartition(topic, p): offset for topic, p, offset in stream["positions"]}
        for name in ("epoch", "clock_ms", "records", "manifest_position"):
            setattr(self, name, stream[name])
        return True

    def _stream(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "config": self._config,
            "epoch": self.epoch,
            "clock_ms": self.clock_ms,
            "records": self.records,
            "manifest_position": self.manifest_position,
            "positions": [(*tp, offset) for tp, offset in self.positions.items()],
            "quality": self.quality.state(),
            "drift": self.drift.state(),
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


def _without(prefix: bytes, pages: Pages) -> Iterator[tuple[bytes, bytes]]:
    """The pages under a prefix, their keys without it."""
    return ((key[len(prefix) :], value) for key, value in pages(prefix))
