"""`freshet serve`: HTTP in, lists and server-sent events out, and the page."""

import argparse

from streamer.cli import add_setting_flags, settings_of
from streamer.logs import open_log_of
from streamer.signals import StopRequest

EXAMPLE = "freshet serve --bootstrap localhost:9092 --port 8765"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(parser, "bootstrap", "log", "host", "port", "api_key")


def run(arguments: argparse.Namespace) -> int:
    from streamer.web.app import Gateway
    from streamer.web.server import WebServer
    from streamer.web.view import View

    stop = StopRequest()
    settings = settings_of(arguments)
    log = open_log_of(settings)
    try:
        view = View(log, settings)
        server = WebServer(Gateway(log, settings, view).app(), settings.host, settings.port)
        view.start()
        server.start()
        print(f"serving on {server.address}", flush=True)
        while not stop.wait(1.0):
            pass
        view.stop()
        server.stop()
    finally:
        log.close()
    return 0
