"""Reads the topics of items and users, from the state's positions on."""

from consumers.log import Log
from consumers.records import Record
from streamer.runtime.topic_reader import widened
from streamer.runtime.topics import whole
from streamer.settings import Settings
from streamer.state.stream_state import StreamState


class Catalogue:
    """Every partition of the topics of items and users: each worker reads all of them, and no group shares them."""

    def __init__(self, log: Log, settings: Settings, state: StreamState) -> None:
        self._log, self._state = log, state
        self._topics = settings.items_topic, settings.users_topic
        interactions = settings.interactions_topic
        positions = {tp: position for tp, position in state.positions.items() if tp.topic != interactions}
        self._partitions = set(positions)
        self._reader = log.reader(positions)

    def read(self, max_records: int) -> list[Record]:
        """What has come; waits for nothing."""
        return self._reader.read(max_records, 0)

    def at_end(self) -> bool:
        """Whether everything has been read, as far as the log showed when last asked."""
        return self._reader.at_end() >= self._partitions

    def follow_added(self) -> None:
        """Reads partitions that were added to the topics, from their first record on."""
        there = whole(self._log, *self._topics)
        added = {tp: start for tp, start in there.items() if tp not in self._partitions}
        self._reader = widened(self._log, self._reader, added)
        self._partitions |= added.keys()
        self._state.positions |= added

    def close(self) -> None:
        self._reader.close()
