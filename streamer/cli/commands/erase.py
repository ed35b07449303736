"""`freshet erase`: erases users, and says where bytes of theirs are and when those go."""

import argparse
import json

from consumers.counted import counted
from consumers.decode_fields import Refused, id_of_key
from consumers.records import NewRecord
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.ops.erasure_report import report, unknown
from streamer.runtime.topics import open_existing_log

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
    with open_existing_log(settings) as log:
        nobody = unknown(log, settings, users)
        log.append([NewRecord(settings.users_topic, user.encode(), None) for user in users])
        places = report(log, settings)
    if arguments.json:
        print(json.dumps({"erased": users, "unknown": nobody, "places": [place._asdict() for place in places]}))
        return 0
    tombstones = counted(len(users), "tombstone", verb="are")
    print(f"{tombstones} on {settings.users_topic}: workers erase these users when they take them.")
    for user in nobody:
        print(f"Nothing is known of user {user}; the tombstone was written all the same.")
    print("Where bytes of theirs may be, and when those go:")
    width = max(len(place.name) for place in places)
    for place in places:
        print(f"  {place.name:<{width}}  {place.gone}")
    return 0
