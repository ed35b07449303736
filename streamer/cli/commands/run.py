"""`freshet run`: the engine on a log, or, with `feedback`, what counts what came of its lists."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.cli.flags import add_event_weight_flag, add_setting_flags, settings_of
from streamer.cli.given_settings import load_settings
from streamer.cli.health_server import health
from streamer.errors import UsageError
from streamer.runtime.signals import HangUps, StopRequest
from streamer.runtime.state_lock import lock_of
from streamer.runtime.topics import open_log_of, state_folder
from streamer.settings import Settings
from streamer.state.in_force import with_those_read
from tgn.config import KERNEL_FOLDERS

if TYPE_CHECKING:
    from streamer.asking.question_queue import QuestionQueue
    from streamer.worker.prometheus import RunMetrics

EXAMPLE = "freshet run --bootstrap localhost:9092 --state freshet-state"
_logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "part", nargs="?", choices=("worker", "feedback"), default="worker",
        help="worker (default): makes lists; feedback: joins feedback to the lists that it quotes, and says on the "
        "topic of quality what they bring",
    )  # fmt: skip
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "request_context", "seed", "field_map",
        "window", "every_item_below", "commit_interval_ms", "checkpoint_interval_ms", "alignment_ms", "delivery",
        "on_position_gone", "on_log_damaged", "allowed_lateness_ms", "too_late", "embeddings", "shadow_events",
        "metrics_host", "metrics_port", "api_host", "api_port", "api_address",
    )  # fmt: skip
    add_event_weight_flag(parser)
    parser.add_argument(
        "--lists-out",
        type=Path,
        help="Parquet file to write the test lists to: event, items, user_id, timestamp, scores, sources",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="feedback on the embedded log: never open its folder, wait for the process that has it open",
    )
    parser.add_argument("--exit-at-end", action="store_true", help="stop when everything in the log has been taken")


def run(arguments: argparse.Namespace) -> int:
    stop = StopRequest()
    hang_ups = HangUps(stop)
    settings = settings_of(arguments)
    if arguments.part == "feedback":
        from streamer.cli.feedback_counting import count_feedback

        count_feedback(settings, stop, arguments.exit_at_end, arguments.follow)
        return 0
    if arguments.follow:
        raise UsageError("--follow is for `freshet run feedback`: a worker opens the log")

    def changed_settings() -> Settings | None:
        """The settings, where they are to be read again; the flags stay on top."""
        nonlocal settings
        if not hang_ups.take():
            return None
        try:
            read = load_settings(arguments)
        except UsageError as error:
            _logger.error("the settings stay as they are: %s", error)
            return None
        settings, _ = with_those_read(settings, read)  # where the log goes away, a worker is opened again with them
        return read

    with lock_of(settings):
        open_log_of(settings).close()  # a log that is not there is said before the kernels load
        KERNEL_FOLDERS.append(state_folder(settings) / "kernels")
        from streamer.asking.question_queue import QuestionQueue
        from streamer.engine.compilation import ensure_compiled
        from streamer.lists.list_files import TestLists
        from streamer.runtime.interpreter import freeze_heap
        from streamer.runtime.supervisor import supervise
        from streamer.worker.prometheus import RunMetrics
        from streamer.worker.worker import Worker

        metrics = RunMetrics(settings)
        queue = QuestionQueue() if settings.api_port is not None else None
        with (
            health(settings, metrics),
            _api(settings, queue, metrics),
            TestLists(arguments.lists_out) as test_lists,
        ):

            @contextmanager
            def opened() -> Iterator[Worker]:
                ensure_compiled(everything=True)  # an undo hours from now is not to wait for it
                with (
                    open_log_of(settings) as log,
                    Worker.open(
                        log,
                        settings,
                        test_lists,
                        lambda: bool(stop),
                        metrics,
                        queue=queue,
                        changed_settings=changed_settings,
                    ) as worker,
                ):
                    freeze_heap()
                    yield worker

            supervise(opened, lambda worker: worker.run(arguments.exit_at_end), stop, metrics.waiting, metrics.achieved)
    return 0


@contextmanager
def _api(settings: Settings, queue: "QuestionQueue | None", metrics: "RunMetrics") -> Iterator[None]:
    """Answers questions meanwhile, where a port is set."""
    if queue is None:
        yield
        return
    from streamer.web.access import is_open_to_all
    from streamer.web.server import WebServer
    from streamer.web.worker_api import worker_app

    server = WebServer(
        worker_app(settings, queue, metrics), settings.api_host, settings.api_port or 0, "--api-port",
        request_timeout_s=settings.request_timeout_s,
    )  # fmt: skip
    server.start()
    queue.address = settings.api_address or server.address
    _logger.info("questions are answered on %s", server.address)
    if is_open_to_all(settings, settings.api_host):
        _logger.warning("whoever reaches %s may ask about any user; give api_key or api_key_file", settings.api_host)
    try:
        yield
    finally:
        server.stop()
