"""`freshet topics`: creates and lists the topics."""

import argparse
import json

from msgspec import structs

from consumers.counted import counted
from streamer.cli.flags import add_actions, add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import count
from streamer.runtime.topics import open_existing_log, open_log_of, topic_specs

EXAMPLE = "freshet topics create --bootstrap localhost:9092 --partitions 8"
ACTIONS = {"create": "what is missing", "ls": "what is there", "list": "the same"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)
    add_setting_flags(parser, "bootstrap", "log")
    parser.add_argument(
        "--partitions", type=count, metavar="N", help="number of partitions of the topics that may have several"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be created, create nothing")
    add_json_flag(parser, "one JSON object a topic")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    opened = open_log_of if arguments.action == "create" else open_existing_log
    with opened(settings) as log:
        specs = {spec.name: spec for spec in topic_specs(settings, arguments.partitions)}
        have = log.topics(specs if arguments.action == "create" else None)
        if arguments.partitions is None:  # a topic that is there may have as many partitions as its owner likes
            specs = {n: structs.replace(s, partitions=have[n].partitions) if n in have else s for n, s in specs.items()}
        if arguments.action != "create":
            specs, verb = dict(sorted(have.items())), "is there"
        elif arguments.dry_run:
            specs, verb = {name: spec for name, spec in specs.items() if name not in have}, "would be created"
        else:
            created = log.create(specs.values())
            specs, verb = {name: specs[name] for name in created}, "created"
    for name, spec in specs.items():
        row = {
            "topic": name,
            "partitions": spec.partitions,
            "cleanup": spec.cleanup,
            "retention_ms": spec.retention_ms,
        }
        print(
            json.dumps(row)
            if arguments.json
            else f"{name} {verb}: {counted(spec.partitions, 'partition')}, {spec.cleanup}"
        )
    if not specs and not arguments.json:
        print("nothing to create: every topic is there" if arguments.action == "create" else "there are no topics")
    return 0
