"""`freshet plan`: what a stream takes, and where it stops."""

import argparse
import json
from functools import partial

from streamer.cli import numbers
from streamer.cli.flags import add_json_flag

EXAMPLE = "freshet plan --users 2000000 --items 100000 --events-per-second 5000 --requests-per-second 500"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Says how many workers, partitions and fronts a stream takes, with how much memory, disk and network, and "
        "where more workers stop helping. It is a model: costs of one of each thing, measured on this code by `python "
        "-m tests.benchmarks.capacity`, added up. Beyond four workers nothing was measured together. Where a stream "
        "does not fit it says so, and ends with 1."
    )
    parser.add_argument("--users", type=numbers.count, required=True, metavar="N", help="users that are known")
    parser.add_argument("--items", type=numbers.count, required=True, metavar="N", help="items that are known")
    parser.add_argument(
        "--events-per-second",
        type=numbers.rate,
        required=True,
        metavar="RATE",
        help="interactions per second, at the busiest time",
    )
    parser.add_argument(
        "--requests-per-second",
        type=numbers.amount,
        default=0.0,
        metavar="RATE",
        help="lists asked for per second (default 0)",
    )
    parser.add_argument(
        "--retention-days", type=numbers.amount, default=30.0, metavar="DAYS",
        help="days for which topics keep interactions, lists and what workers tell one another (default 30)",
    )  # fmt: skip
    parser.add_argument(
        "--items-per-user", type=numbers.amount, default=100.0, metavar="N",
        help="different items that a user takes in all (default 100)",
    )  # fmt: skip
    parser.add_argument(
        "--replication", type=numbers.count, default=3, metavar="N", help="copies of each topic (default 3)"
    )
    parser.add_argument(
        "--challengers", type=partial(numbers.count, least=0), default=0, metavar="N",
        help="models that experiments have beside the live one (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-gib",
        type=numbers.rate,
        default=64.0,
        metavar="GIB",
        help="memory of the machine of a worker (default 64)",
    )
    parser.add_argument(
        "--network-gbit", type=numbers.rate, default=10.0, metavar="GBIT",
        help="network of the machine of a worker, Gbit/s (default 10)",
    )  # fmt: skip
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    from streamer.ops.capacity import MEASURED_WORKERS, Machine, PlannedStream, plan

    stream = PlannedStream(
        arguments.users, arguments.items, arguments.events_per_second, arguments.requests_per_second,
        arguments.retention_days, arguments.items_per_user, arguments.replication,
        arguments.challengers,
    )  # fmt: skip
    found = plan(stream, Machine(arguments.memory_gib, arguments.network_gbit))
    if arguments.json:
        print(json.dumps(found._asdict()))
        return 0
    is_one = found.workers == 1
    each = "busy" if is_one else "each busy"
    print(f"workers     {found.workers}, {each} {found.busy:.0%} of a thread")
    print(f"fronts      {f'{found.fronts} of `freshet serve`' if found.fronts else 'none: no list is asked for'}")
    print(f"partitions  {found.partitions} of the interactions")
    print(f"memory      {found.memory_gib:,.1f} GiB each: every worker holds all users and items")
    print(f"disk        {found.disk_gib:,.1f} GiB each; checkpoints write {found.disk_mb_per_s:,.1f} MB/s at most")
    print(f"topics      {found.log_gib:,.0f} GiB on all brokers, before compression")
    print(f"network     {found.worker_in_mbit:,.0f} Mbit/s in and {found.worker_out_mbit:,.0f} out of each worker, "
          f"{found.brokers_out_mbit:,.0f} out of the brokers")  # fmt: skip
    if not is_one:
        print(f"capacity    {found.capacity:.1f} times that of one worker alone")
    print(
        f"limit       {found.most_capacity:.1f} times that of one worker, {found.most_events_per_s:,.0f} interactions "
        "per second: more workers do not help beyond"
    )
    measured = "one worker was measured alone" if is_one else "so many workers were measured together"
    known = measured if found.measured else (
        f"this is a model's output: more than {MEASURED_WORKERS} workers were never measured together"
    )  # fmt: skip
    print(f"known       {known}")
    return 0
