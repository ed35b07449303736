"""`freshet run`: the engine on a log."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.cli.flags import add_setting_flags, settings_of
from streamer.runtime.signals import StopRequest
from streamer.runtime.state_lock import StateLock
from streamer.runtime.topics import open_log_of, state_folder
from streamer.settings import Settings
from tgn.config import KERNEL_FOLDERS

if TYPE_CHECKING:
    from streamer.worker.prometheus import RunMetrics

EXAMPLE = "freshet run --bootstrap localhost:9092 --state freshet-state"
_logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "request_context", "seed", "field_map",
        "window", "every_item_below", "commit_interval_ms", "checkpoint_interval_ms", "alignment_ms", "delivery",
        "on_position_gone", "on_log_damaged", "allowed_lateness_ms", "too_late", "embeddings", "shadow_events",
        "metrics_host", "metrics_port",
    )  # fmt: skip
    parser.add_argument("--lists-out", type=Path, help="Parquet file to write the test lists to: event, items")
    parser.add_argument("--exit-at-end", action="store_true", help="stop when everything in the log has been taken")


def run(arguments: argparse.Namespace) -> int:
    stop = StopRequest()
    settings = settings_of(arguments)
    with StateLock(state_folder(settings)):
        open_log_of(settings).close()  # a log that is not there is said before the kernels load
        KERNEL_FOLDERS.append(state_folder(settings) / "kernels")
        from streamer.lists.list_files import TestLists
        from streamer.runtime.supervisor import supervise
        from streamer.worker.prometheus import RunMetrics
        from streamer.worker.worker import Worker

        metrics = RunMetrics(settings)
        with _health(settings, metrics), TestLists(arguments.lists_out) as test_lists:

            @contextmanager
            def opened() -> Iterator[Worker]:
                with (
                    open_log_of(settings) as log,
                    closing(Worker.open(log, settings, test_lists, lambda: bool(stop), metrics)) as worker,
                ):
                    yield worker

            supervise(opened, lambda worker: worker.run(arguments.exit_at_end), stop, metrics.waiting, metrics.achieved)
    return 0


@contextmanager
def _health(settings: Settings, metrics: "RunMetrics") -> Iterator[None]:
    """Answers /livez, /readyz and /metrics meanwhile, where a port is set."""
    if settings.metrics_port is None:
        yield
        return
    from streamer.web.health import health_app
    from streamer.web.server import WebServer

    server = WebServer(
        health_app(metrics, settings.metrics_host), settings.metrics_host, settings.metrics_port, "--metrics-port"
    )
    server.start()
    _logger.info("/livez, /readyz and /metrics on %s", server.address)
    try:
        yield
    finally:
        server.stop()
