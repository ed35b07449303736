"""`freshet sink`: a Neo4j graph that follows the log."""

import argparse
import json

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.runtime.optional_packages import require
from streamer.runtime.progress import progress
from streamer.runtime.signals import StopRequest
from streamer.runtime.topics import input_topics, open_log_of, whole

EXAMPLE = "freshet sink bolt://localhost:7687 --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", help="address of the database, such as bolt://localhost:7687")
    add_setting_flags(parser, "bootstrap", "log", "field_map", "on_position_gone", "neo4j_user")
    add_json_flag(parser, "one JSON object at the end, as without this flag")
    parser.add_argument("--exit-at-end", action="store_true", help="stop when everything in the log is in the graph")


def run(arguments: argparse.Namespace) -> int:
    stop, settings = StopRequest(), settings_of(arguments)
    require("neo4j", "neo4j")
    from consumers.neo4j import GraphStore
    from streamer.sinks.graph import follow

    def open_store() -> GraphStore:
        return GraphStore(arguments.uri, settings.neo4j_user, settings.neo4j_password)

    with open_log_of(settings) as log, open_store() as store:
        left = sum(log.ends(tp.topic)[tp.partition] for tp in whole(log, *input_topics(settings))) - sum(
            store.positions().values()
        )
    with progress("sink", max(left, 0), unit="records") as advance:
        follow(lambda: open_log_of(settings), open_store, settings, stop, arguments.exit_at_end, advance)
    with open_store() as store:
        print(json.dumps(store.counts()))
    return 0
