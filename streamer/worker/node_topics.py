"""Reads the topics of items and users, from the state's positions on."""

from consumers.log import Log
from consumers.records import Record
from streamer.pipeline.epoch import Erasure, ItemChange, UserChange
from streamer.pipeline.ingest import Intake
from streamer.runtime.topic_reader import widened
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.rules_topic import RulesTopic


class NodeTopics:
    """Every partition of the topics of items and users: each worker reads all of them, and no group shares them.

    rules: their topic is read by the same reader.
    """

    def __init__(self, log: Log, settings: Settings, state: StreamState, rules: RulesTopic) -> None:
        self._log, self._state, self._rules = log, state, rules
        self._topics = settings.items_topic, settings.users_topic
        interactions = settings.interactions_topic
        positions = {tp: position for tp, position in state.positions.items() if tp.topic != interactions}
        positions |= rules.positions()
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
        self._state.positions |= added
        added |= self._rules.appeared()
        self._reader = widened(self._log, self._reader, added)
        self._partitions |= added.keys()

    def close(self) -> None:
        self._reader.close()


def restore_catalogue(log: Log, settings: Settings, state: StreamState) -> None:
    """Takes what the records before the state's positions say into its catalogue, and changes nothing else.

    A checkpoint of before format 11 has no catalogue. Deletions and erasures were taken in their time: to take them
    again would take back what came after them.
    """
    if state.has_catalogue:
        return
    intake, catalogue, model = Intake(settings), state.catalogue, state.engine.model
    for record in read_records(log, whole(log, settings.items_topic, settings.users_topic)):
        if record.offset >= state.positions.get(record.topic_partition, 0):
            continue
        _, change = intake.change(record)
        if isinstance(change, ItemChange):
            node = model.items.get(change.item_id)
            if node is not None and change.item is not None:
                catalogue.take_item(node, change.item)
            elif node is not None:
                catalogue.drop_item(node)
        elif isinstance(change, UserChange | Erasure):
            node = model.users.get(change.user.user_id if isinstance(change, UserChange) else change.user_id)
            if node is not None and isinstance(change, UserChange):
                catalogue.take_user(node, change.user)
            elif node is not None:
                catalogue.drop_user(node)
    state.has_catalogue = True
