"""`freshet erase`: erases users, and says where bytes of theirs are and when those go."""

import argparse
import json

from consumers.decode import Refused, id_of_key
from consumers.records import NewRecord
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.ops.erasure_report import report
from streamer.runtime.topics import existing_log_of

EXAMPLE = "freshet erase ann bob --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", nargs="+", help="id of a user")
    add_setting_flags(parser, "bootstrap", "log", "embeddings")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    users = list(dict.fromkeys(arguments.user))
    for user in users:
        try:
            id_of_key(user.encode("utf-8", "surrogateescape"))
        except Refused as refused:
            raise UsageError(f"{user[:100]!r} is no id of a user: {refused.message}") from None
    settings = settings_of(arguments)
    with existing_log_of(settings) as log:
        log.append([NewRecord(settings.users_topic, user.encode(), None) for user in users])
        places = report(log, settings)
    if arguments.json:
        print(json.dumps({"erased": users, "places": [place._asdict() for place in places]}))
        return 0
    print(f"{len(users)} tombstones are on {settings.users_topic}: workers erase these users when they take them.")
    print("Where bytes of theirs may be, and when those go:")
    width = max(len(place.name) for place in places)
    for place in places:
        print(f"  {place.name:<{width}}  {place.gone}")
    return 0
