"""`freshet serve`: HTTP in, lists and server-sent events out, and the page."""

import argparse
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.runtime.signals import StopRequest
from streamer.runtime.topics import follow_log_of, open_log_of
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.runtime.certificate import Certificate
    from streamer.runtime.supervisor import Threads
    from streamer.web.materialized_view import View

EXAMPLE = "freshet serve --bootstrap localhost:9092 --port 8765"
_logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(
        parser, "bootstrap", "log", "state", "host", "port", "api_key", "api_key_file", "tls_certificate", "tls_key"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="never open the folder of the embedded log: wait for the process that has it open, such as `freshet run`",
    )
    parser.add_argument(
        "--beside-worker",
        action="store_true",
        help="say that it is ready only once a worker answers: for who starts both, as `freshet up` does",
    )
    add_json_flag(parser, "one JSON object with the address")


def run(arguments: argparse.Namespace) -> int:
    from streamer.runtime.certificate import Certificate
    from streamer.runtime.interpreter import freeze_heap
    from streamer.runtime.supervisor import Threads
    from streamer.web.access import is_open_to_all
    from streamer.web.api import Namespaces
    from streamer.web.server import WebServer

    stop = StopRequest()
    settings = settings_of(arguments)
    if arguments.api_key is not None:
        print("freshet: the list of processes shows --api-key; use FRESHET_API_KEY or api_key_file", file=sys.stderr)
    if arguments.follow and settings.bootstrap:
        raise UsageError("--follow is for the embedded log, and events live on a broker")
    if settings.namespace and settings.namespaces:
        raise UsageError("`namespaces` is for a front that has no `namespace` itself")
    certificate = Certificate.from_settings(settings)
    threads = Threads(stop.set)
    every = [settings, *(settings.in_namespace(name, keys) for name, keys in settings.namespaces.items())]
    fronts = [_front(own, arguments.follow, arguments.beside_worker, stop, threads) for own in every]
    app, *others = (front.app for front in fronts)
    server = WebServer(
        Namespaces(app, dict(zip(settings.namespaces, others, strict=True))), settings.host, settings.port,
        threads=threads, request_timeout_s=settings.request_timeout_s, sockets=True,
        certificate=certificate,
    )  # fmt: skip
    try:
        for front in fronts:
            front.view.start()
        server.start()
        freeze_heap()
        said = json.dumps({"address": server.address}) if arguments.json else f"serving on {server.address}"
        print(said, flush=True)
        for own in every:
            if is_open_to_all(own, settings.host):
                of = f" in the namespace {own.namespace}" if own.namespace else ""
                open_to_all = f"whoever reaches {settings.host} may read, write and erase{of}"
                print(f"freshet: warning: {open_to_all}; give api_key or api_key_file", file=sys.stderr)
        while not stop.wait(1.0):
            _renew(certificate)
        threads.check()
    finally:
        for front in fronts:
            front.view.stop()
        server.stop()
    return 0


def _renew(certificate: "Certificate | None") -> None:
    """Takes a renewed certificate; says so, or why not."""
    try:
        if certificate is not None and certificate.renew():
            _logger.info("connections from now on get the renewed certificate")
    except UsageError as error:
        _logger.warning("%s; the certificate of before goes on", error)


class _Front(NamedTuple):
    """What answers for one application."""

    view: "View"
    app: Any


def _front(settings: Settings, follow: bool, beside_worker: bool, stop: StopRequest, threads: "Threads") -> _Front:
    from streamer.web.access import admin_key
    from streamer.web.api import Gateway
    from streamer.web.current_log import CurrentLog
    from streamer.web.materialized_view import View
    from streamer.web.workers.askers import START_ONE, STARTING, RemoteAsker

    log = CurrentLog(lambda: follow_log_of(settings, stop) if follow else open_log_of(settings))
    view = View(log, settings, threads)
    asker = RemoteAsker(view.workers, admin_key(settings), STARTING if beside_worker else START_ONE)
    return _Front(view, Gateway(log, settings, view, asker=asker, beside_worker=beside_worker).app())
