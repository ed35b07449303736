"""The newest list of each user, and the newest record of each item and user, as keys of a store (`consumers.redis`).

A service that has a Redis beside it reads a list, and what is known of its items, in one round trip, whichever of
Freshet's processes are up. It is also the shortest example of a sink: topics, and what a record says to the store.
"""

import msgspec

from consumers.decode_fields import UNDECODABLE
from consumers.errors import LogUnavailable
from consumers.log import Log, Positions
from consumers.records import Record
from consumers.redis import KeyBatch, KeyStore
from consumers.schemas import RecommendationList
from streamer.pipeline.epoch import Erasure, ItemChange, UserChange
from streamer.pipeline.ingest import Intake
from streamer.runtime.topics import published_surfaces
from streamer.settings import Settings
from streamer.sinks.following import Sink

_decode_list = msgspec.json.Decoder(RecommendationList).decode
_encode = msgspec.json.Encoder().encode


class KeySink(Sink):
    """Writes lists, items and users to a key-value store, see `streamer.sinks.following.Sink`.

    Raises RedisUnavailable too, and LogUnavailable where a surface is published from now on: it has to be opened again.
    """

    def __init__(self, log: Log, store: KeyStore, settings: Settings) -> None:
        self._log, self._store, self._intake = log, store, Intake(settings)
        self._surfaces = published_surfaces(log, settings)
        super().__init__(log, store, settings, (*self._surfaces, settings.items_topic, settings.users_topic))

    def write(self, records: list[Record], positions: Positions, topic_ids: dict[str, str]) -> None:
        """See `Sink.write`."""
        values = dict[str, bytes | None]()
        for record in records:
            surface = self._surfaces.get(record.topic)
            values.update(self._node(record) if surface is None else _list(record, surface))
        self._store.write(KeyBatch(values, dict(positions)), topic_ids)

    def step(self, wait_s: float = 1.0) -> int:
        """See `Sink.step`."""
        taken = super().step(wait_s)
        if not taken and (new := published_surfaces(self._log, self._settings).keys() - self._surfaces.keys()):
            raise LogUnavailable(f"there are lists on {', '.join(sorted(new))} from now on; opening it again")
        return taken

    def _node(self, record: Record) -> dict[str, bytes | None]:
        """The key of a record of an item or a user, and its value; nothing where the worker refuses it."""
        match self._intake.change(record)[1]:
            case ItemChange(item_id, item):
                return {f"item:{item_id}": None if item is None else _encode(item)}
            case UserChange(user):
                return {f"user:{user.user_id}": _encode(user)}
            case Erasure(user_id, _):
                return {f"user:{user_id}": None}
        return {}


def _list(record: Record, surface: str) -> dict[str, bytes | None]:
    """The key of a user's list and the record; nothing where it is no list."""
    try:
        user = (record.key or b"").decode()
        if record.value is not None:
            _decode_list(record.value)
    except UNDECODABLE:
        return {}
    return {f"list:{surface}:{user}": record.value} if user else {}
