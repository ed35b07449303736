"""Sets a damaged checkpoint aside, so that the state is made anew from the log."""

import logging

from consumers.log import Committer, Log
from streamer.errors import StateUnreadable
from streamer.settings import Settings
from streamer.worker.log_reach import may_lack

_logger = logging.getLogger(__name__)


def begin_anew(log: Log, settings: Settings, committer: Committer, damage: str) -> None:
    """Begins an empty checkpoint, where the log has all it takes to make it anew. Raises StateUnreadable.

    To be called once the error that said the damage is gone: its frames hold the damaged files open.
    """
    short = [
        f"{topic}[{partition}] begins at {start}"
        for topic in (settings.interactions_topic, settings.epochs_topic)
        for partition, start in log.starts(topic).items()
        if start
    ]
    if short and not may_lack(settings):
        raise StateUnreadable(
            f"{damage}, and the log cannot make it anew: {short[0]}; import an exported checkpoint, "
            'or set on_position_gone = "earliest" to go on with what there is'
        )
    _logger.warning("%s; it is set aside, and the state is rebuilt from the log", damage)
    committer.discard_state()
