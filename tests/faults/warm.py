"""Imported once by the process that others are forked from: see `tests.faults.forked`."""

from streamer.cli.commands import run
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker import worker
from tests.faults import victim

__all__ = ["run", "victim", "worker"]

StreamState(Settings()).warm_up()
