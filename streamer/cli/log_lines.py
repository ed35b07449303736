"""What a command says of its work, on stderr: lines for people, or a JSON object a line for machines."""

import argparse
import logging
from datetime import UTC, datetime

import msgspec

from streamer.cli.hints import completed
from streamer.settings import Settings

SERVICES = ("run", "serve", "sink")
"""Commands that run for long: they say what they do, others only what is amiss."""


def set_up_logging(arguments: argparse.Namespace, settings: Settings) -> None:
    """Says what is logged, as the settings want it; does nothing where the process has set up logging before."""
    handler = logging.StreamHandler()
    handler.setFormatter((JsonLines if settings.log_format == "json" else TextLines)(arguments))
    level = settings.log_level or ("info" if getattr(arguments, "command", None) in SERVICES else "warning")
    logging.basicConfig(level=level.upper(), handlers=[handler])


class TextLines(logging.Formatter):
    """A line for people; the commands in it are completed, see `streamer.cli.hints`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._arguments = arguments

    def format(self, record: logging.LogRecord) -> str:
        return completed(super().format(record), self._arguments)


class JsonLines(logging.Formatter):
    """A JSON object a record: time, level, logger, message, and the traceback of an exception."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self._arguments = arguments

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": completed(record.getMessage(), self._arguments),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
