"""Looks now and then whether the topics are still those that the state was made from."""

import logging

from consumers.errors import LogUnavailable, PositionGone, UnknownTopic
from consumers.log import Log
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.node_topics import NodeTopics
from streamer.worker.other_blocks import OtherBlocks

TOPICS_EVERY_S = 5.0
_logger = logging.getLogger(__name__)


class TopicWatch:
    """Finds topics that were deleted and made anew while they were read, and partitions that were added.

    Those of interactions the group gives out by itself, and the topics of epochs and of steps have one.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        state: StreamState,
        catalogue: NodeTopics,
        blocks: OtherBlocks,
        clock: Clock,
    ) -> None:
        self._log, self._settings, self._state = log, settings, state
        self._catalogue, self._blocks, self._clock = catalogue, blocks, clock
        self._looked = clock.monotonic()

    def look_when_due(self) -> None:
        """Looks where the last look is some seconds ago."""
        if self._clock.monotonic() - self._looked > TOPICS_EVERY_S:
            self.look()

    def look(self) -> None:
        """Raises PositionGone where a topic is another one now, or LogUnavailable where the state may go on with it."""
        self._looked = self._clock.monotonic()
        try:
            ids = self._log.topic_ids(self._state.topic_ids)
            self._catalogue.follow_added()
            self._blocks.follow_added()
        except (LogUnavailable, UnknownTopic) as error:  # who reads and commits waits for it, or says so
            _logger.debug("topics were not looked at: %s", error)
            return
        gone = [topic for topic, id_ in self._state.topic_ids.items() if ids.get(topic, id_) != id_]
        if not gone:
            return
        found = f"the topic {gone[0]} was deleted and made anew"
        if self._settings.on_position_gone == "stop":
            raise PositionGone(f'{found}; set on_position_gone = "earliest" to go on with what there is')
        raise LogUnavailable(f"{found}; opening it again")
