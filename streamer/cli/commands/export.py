"""`freshet export`: lists of the log as a Parquet file."""

import argparse
import json

from consumers.counted import counted
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.runtime.progress import advancing, progress
from streamer.runtime.topics import open_existing_log, published_surfaces, read_records, whole

EXAMPLE = "freshet export lists.parquet --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes the lists that left, asked for or published, as a Parquet file, a row a list: all that the topic "
        "`freshet.lists` has, up to its end. `freshet checkpoint export` does it with a state."
    )
    parser.add_argument(
        "file",
        help="Parquet file to write: a path, or a URL of an object store such as s3://bucket/lists.parquet (with the "
        "extra object-storage)",
    )
    add_setting_flags(parser, "bootstrap", "log")
    parser.add_argument(
        "--newest",
        action="store_true",
        help="write the newest published list of each user alone, of every surface that is published",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    from streamer.ops.list_export import export_lists, newest_of
    from streamer.ops.object_store import written_to

    settings = settings_of(arguments)
    with (
        open_existing_log(settings) as log,
        progress("export", None, "records") as advance,
        written_to(arguments.file) as file,
    ):
        topics = published_surfaces(log, settings) if arguments.newest else (settings.lists_topic,)
        records = advancing(read_records(log, whole(log, *topics)), advance)
        found = export_lists(newest_of(records) if arguments.newest else records, file)
    if arguments.json:
        print(json.dumps({"file": arguments.file} | found._asdict()))
        return 0
    said = f"{counted(found.lists, 'list')} in {arguments.file}"
    print(said + (f"; passed over: {counted(found.passed_over, 'record')} of no list" if found.passed_over else ""))
    return 0
