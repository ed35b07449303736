"""`freshet run`: the engine on a log."""

import argparse
import logging
from pathlib import Path

from streamer.cli import add_setting_flags, settings_of
from streamer.logs import open_log_of, state_folder
from streamer.signals import StopRequest
from streamer.state_lock import StateLock

EXAMPLE = "freshet run --bootstrap localhost:9092 --state freshet-state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "field_map", "window",
        "every_item_below", "commit_interval_ms", "checkpoint_interval_ms", "alignment_ms", "delivery",
        "on_position_gone", "allowed_lateness_ms", "too_late",
    )  # fmt: skip
    parser.add_argument("--lists-out", type=Path, help="Parquet of the test lists: event, items")
    parser.add_argument("--exit-at-end", action="store_true", help="stop when everything in the log has been taken")


def run(arguments: argparse.Namespace) -> int:
    stop = StopRequest()
    settings = settings_of(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with StateLock(state_folder(settings)):
        open_log_of(settings).close()  # a log that is not there is said before the kernels load
        from streamer.supervisor import supervise

        supervise(lambda: open_log_of(settings), settings, stop, arguments.lists_out, arguments.exit_at_end)
    return 0
