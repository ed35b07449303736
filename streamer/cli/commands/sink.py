"""`freshet sink`: a Neo4j graph, or the keys of a Redis, that follow the log."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from consumers.log import Log
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.runtime.optional_packages import require
from streamer.runtime.progress import progress
from streamer.runtime.signals import StopRequest
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings
from streamer.sinks.following import FollowingStore, Sink, follow

EXAMPLE = "freshet sink redis://localhost:6379 --bootstrap localhost:9092"
OneStore = TypeVar("OneStore", bound=FollowingStore)
GRAPH, KEYS = ("bolt", "neo4j"), ("redis", "rediss", "unix")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "uri",
        help="address of the store: bolt://localhost:7687 for interactions, items and users as a graph in Neo4j, "
        "redis://localhost:6379 for lists, items and users as keys in Redis",
    )
    add_setting_flags(
        parser, "bootstrap", "log", "field_map", "on_position_gone", "neo4j_user", "redis_user", "redis_prefix"
    )
    add_json_flag(parser, "one JSON object at the end, as without this flag")
    parser.add_argument("--exit-at-end", action="store_true", help="stop when everything in the log is in the store")


def run(arguments: argparse.Namespace) -> int:
    settings, uri = settings_of(arguments), arguments.uri
    scheme = uri.partition("://")[0].partition("+")[0]
    if scheme in GRAPH:
        require("neo4j", "neo4j")
        from consumers.neo4j import GraphStore
        from streamer.sinks.graph import GraphSink

        def open_graph() -> GraphStore:
            return GraphStore(uri, settings.neo4j_user, settings.neo4j_password, settings.interactions_topic)

        return _run(open_graph, GraphSink, settings, arguments.exit_at_end)
    if scheme in KEYS:
        require("redis", "redis")
        from consumers.redis import KeyStore
        from streamer.sinks.keys import KeySink

        def open_keys() -> KeyStore:
            return KeyStore(uri, settings.redis_prefix, settings.redis_user, settings.redis_password)

        return _run(open_keys, KeySink, settings, arguments.exit_at_end)
    schemes = ", ".join(f"{one}://" for one in (*GRAPH, *KEYS))
    raise UsageError(f"{scheme or uri} is no kind of store; an address begins with one of {schemes}")


def _run(
    open_store: Callable[[], OneStore],
    make: Callable[[Log, OneStore, Settings], Sink],
    settings: Settings,
    exit_at_end: bool,
) -> int:
    """Keeps a store in step, then says how much is in it."""
    stop = StopRequest()

    @contextmanager
    def opened() -> Iterator[Sink]:
        with open_log_of(settings) as log, open_store() as store, make(log, store, settings) as sink:
            yield sink

    with opened() as sink:
        left = sink.left()
    with progress("sink", left, unit="records") as advance:
        follow(opened, stop, exit_at_end, advance)
    with open_store() as store:
        print(json.dumps(store.counts()))
    return 0
