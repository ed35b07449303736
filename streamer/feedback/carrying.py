"""Carries the records of a log to `FeedbackCounting`: by Faust on Kafka, by a reader on the embedded log."""

import asyncio
from collections.abc import Callable

from consumers.log import Log
from consumers.storage.checkpoint_store import instance_id
from streamer.feedback.counting import FeedbackCounting
from streamer.runtime.topic_reader import TopicReader
from streamer.runtime.topics import state_folder
from streamer.settings import Settings

RECORDS_A_STEP, WAIT_S = 2_000, 0.2


def carry_embedded(log: Log, counting: FeedbackCounting, stop: Callable[[], bool], exit_at_end: bool) -> None:
    """Reads the topics until it is to stop, or until all that is in the log is counted and said."""
    with TopicReader(log, counting.topics, lambda at, start, end: counting.starts.get(at, start)) as reader:
        while not stop():
            records = reader.read(RECORDS_A_STEP, WAIT_S)
            if records:
                counting.take(records)
            counting.rest(reader.positions())
            if exit_at_end and not records and reader.at_end():
                for _ in range(2):  # ends are asked, then compared with what has been read
                    counting.finish(reader.positions())
                return


def carry_kafka(settings: Settings, counting: FeedbackCounting, stop: Callable[[], bool], exit_at_end: bool) -> None:
    """Has Faust carry them, as a member of a group of its own."""
    from consumers.feedback.faust_carrier import Carried, carry

    def ended() -> bool:
        return stop() or (exit_at_end and counting.is_complete())

    carried = Carried(counting.places, counting.take, counting.rest, ended)
    group = f"{settings.application}.feedback"
    instance = instance_id(state_folder(settings) / "feedback")
    asyncio.run(carry(group, instance, settings.bootstrap or "", settings.kafka, carried))
