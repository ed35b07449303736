"""`freshet up`: a worker, what counts feedback and the front, on one embedded log; with namespaces two for each."""

import argparse
import json
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from consumers.errors import FreshetError
from streamer.cli.flags import JSON_FLAG, add_event_weight_flag, add_json_flag, add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.runtime.signals import HangUps, StopRequest
from streamer.runtime.state_lock import lock_of
from streamer.runtime.topics import DEFAULT_LOG, open_log_of, topic_specs
from streamer.settings import PREFIX, Settings

EXAMPLE = "freshet up --log freshet-log --port 8765"
LOOPBACK = "127.0.0.1"
KEPT = (sys.executable, "-m", "streamer.cli.kept")
OF_THE_PARENT = ("log", "bootstrap", "state", "host", "port")  # these become flags of the children


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(
        parser, "log", "host", "port", "api_key", "api_key_file", "tls_certificate", "tls_key",
        "k", "exclude_seen", "request_context", "seed",
        "field_map", "window", "every_item_below", "allowed_lateness_ms", "too_late", "embeddings",
    )  # fmt: skip
    add_event_weight_flag(parser)
    add_json_flag(parser, "one JSON object with the address")


def run(arguments: argparse.Namespace) -> int:
    from streamer.runtime.certificate import Certificate
    from streamer.runtime.children import Child, ChildRefused, keep
    from streamer.web.access import admin_key
    from streamer.web.server import listen

    stop = StopRequest()
    hang_ups = HangUps(stop)
    settings = settings_of(arguments)
    if settings.bootstrap:
        raise UsageError(
            "`up` keeps events in a folder: name one with --log; beside a broker, start `freshet run --api-port 0` "
            "and `freshet serve`"
        )
    Certificate.from_settings(settings)  # what is wrong with it is said before anything starts
    folder = settings.log or DEFAULT_LOG
    every = [settings, *(settings.in_namespace(name, keys) for name, keys in settings.namespaces.items())]
    for own in every:
        lock_of(own, "end it, or name another folder with --log").close()
    listen(settings.host, settings.port, "--port").close()
    with open_log_of(settings) as log:
        there = log.topics()
        log.create([spec for own in every for spec in topic_specs(own, partitions=1) if spec.name not in there])
    environment = _variables(arguments, settings)
    front = Child("the front", lambda: _front(folder, settings, arguments.json), environment, admin_key(settings))
    children = []
    for own in every:
        whose = f" of the namespace {own.namespace}" if own is not settings else ""
        variables = environment if own is settings else environment | _keys_of(own, settings)
        children += [
            Child(
                f"the worker{whose}", partial(_worker, folder, own.namespace), variables, admin_key(own), reloads=True
            ),
            Child(
                f"what counts feedback{whose}", partial(_feedback, folder, own.namespace), variables, is_patient=True
            ),
        ]
    try:
        keep((*children, front), stop, hang_ups)
    except ChildRefused:
        return FreshetError.exit_code
    return 0


def _worker(folder: Path, namespace: str) -> Any:
    from streamer.runtime.children import Start

    port = _free_port(LOOPBACK)
    flags = ["--log", str(folder), "--set", f"api_host={LOOPBACK}", "--api-port", str(port)]
    flags += ["--set", f"namespace={namespace}"] if namespace else []
    return Start((*KEPT, "run", *flags), f"http://{LOOPBACK}:{port}/readyz")


def _feedback(folder: Path, namespace: str) -> Any:
    from streamer.runtime.children import Start

    port = _free_port(LOOPBACK)
    flags = ["--log", str(folder), "--follow", "--set", f"metrics_host={LOOPBACK}", "--metrics-port", str(port)]
    flags += ["--set", f"namespace={namespace}"] if namespace else []
    return Start((*KEPT, "run", "feedback", *flags), f"http://{LOOPBACK}:{port}/readyz")


def _front(folder: Path, settings: Settings, as_json: bool) -> Any:
    """It follows the worker's log, and never opens it itself: the worker that starts again is to have it."""
    from streamer.runtime.children import Start

    port = settings.port or _free_port(settings.host)
    flags = ["--log", str(folder), "--state", str(folder / "front"), "--follow", "--beside-worker"]
    flags += ["--host", settings.host, "--port", str(port), *([JSON_FLAG] if as_json else [])]
    host = LOOPBACK if settings.host in ("0.0.0.0", "::") else settings.host
    scheme = "http" if settings.tls_certificate is None else "https"
    address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    return Start((*KEPT, "serve", *flags), f"{address}/readyz")


def _keys_of(own: Settings, settings: Settings) -> dict[str, str]:
    """What makes the keys of a namespace those of its worker, whatever the others have."""
    from streamer.web.access import admin_key

    if own.api_key_file is None:
        if settings.api_key is None and settings.api_key_file is None:
            return {}
        raise UsageError(
            f"the namespace {own.namespace} has no keys, and what stands beside it has: give it a file of its own"
        )
    key = admin_key(own)
    if key is None:
        raise UsageError(f"{own.api_key_file} has no key with the scope admin, by which its processes ask one another")
    return {f"{PREFIX}API_KEY_FILE": str(own.api_key_file), f"{PREFIX}API_KEY": key}


def _variables(arguments: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """What was given on the command line, for the children: keys stay out of the list of processes."""
    own = {name for name in Settings.model_fields if getattr(arguments, name, None) is not None} | set(arguments.set)
    own |= {"event_weights"} if arguments.event_weight else set()
    given = settings.model_dump(mode="json", include=own - {*OF_THE_PARENT})
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return {f"{PREFIX}{name.upper()}": text for name, text in texts.items()}


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
