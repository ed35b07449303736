"""`freshet serve`: HTTP in, lists and server-sent events out, and the page."""

import argparse
import json
import sys

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.runtime.signals import StopRequest
from streamer.runtime.topics import open_log_of

EXAMPLE = "freshet serve --bootstrap localhost:9092 --port 8765"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(parser, "bootstrap", "log", "state", "host", "port", "api_key", "api_key_file")
    add_json_flag(parser, "one JSON object with the address")


def run(arguments: argparse.Namespace) -> int:
    from streamer.runtime.supervisor import Threads
    from streamer.web.api import Gateway
    from streamer.web.current_log import CurrentLog
    from streamer.web.guard import is_loopback
    from streamer.web.materialized_view import View
    from streamer.web.server import WebServer

    stop = StopRequest()
    settings = settings_of(arguments)
    if arguments.api_key is not None:
        print("freshet: the list of processes shows --api-key; use FRESHET_API_KEY or api_key_file", file=sys.stderr)
    threads, log = Threads(stop.set), CurrentLog(lambda: open_log_of(settings))
    view = View(log, settings, threads)
    app = Gateway(log, settings, view).app()
    server = WebServer(app, settings.host, settings.port, threads=threads, request_timeout_s=settings.request_timeout_s)
    try:
        view.start()
        server.start()
        said = json.dumps({"address": server.address}) if arguments.json else f"serving on {server.address}"
        print(said, flush=True)
        if not is_loopback(settings.host) and settings.api_key is None and settings.api_key_file is None:
            open_to_all = f"whoever reaches {settings.host} may read, write and erase"
            print(f"freshet: warning: {open_to_all}; give api_key or api_key_file", file=sys.stderr)
        while not stop.wait(1.0):
            pass
        threads.check()
    finally:
        view.stop()
        server.stop()
    return 0
