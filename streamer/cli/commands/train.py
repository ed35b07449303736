"""`freshet train`: embeddings of users and items by a model of the graph family."""

import argparse
import json
import os
import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from consumers.counted import counted
from consumers.event_weights import EventWeights
from consumers.files.first_look import look_at
from consumers.files.rows import Refusals
from consumers.schemas import Item, User
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import count
from streamer.cli.spans import span_ms
from streamer.cli.stream_flags import Stream, add_reading_flags, catalogue_of, ends_here, read_stream
from streamer.errors import UsageError
from streamer.features.topic_table import owned_rows
from streamer.runtime.optional_packages import require
from streamer.runtime.progress import progress
from streamer.settings import Settings

EXAMPLE = "freshet train lightgcn interactions.parquet --items items.parquet --reach 90d --out embeddings"
MODELS = ("lightgcn", "gcn", "gat", "pinsage", "session")
LOSSES = ("softmax", "infonce", "bpr")
NEGATIVES = ("uniform", "popularity", "in-batch", "hard", "mixed")
FUSIONS = ("early", "late", "attention")
WARM_PASSES = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=MODELS, help="model that embeds users and items")
    parser.add_argument(
        "source", nargs="+", metavar="FILE | TOPIC | URL",
        help="files of interactions, folders of them, or - for standard input; with --log or --bootstrap a topic; or "
        "bolt://HOST:PORT of a graph of `sink`",
    )  # fmt: skip
    add_reading_flags(parser)
    parser.add_argument(
        "--items", type=Path, help="file of items; their categories and attributes become context nodes"
    )
    parser.add_argument("--users", type=Path, help="file of users; their attributes become context nodes")
    parser.add_argument(
        "--out", type=Path, default=Path("embeddings"), help="folder of the versions (default embeddings)"
    )
    parser.add_argument(
        "--reach",
        "--window",  # its name of before; elsewhere that is the setting
        dest="reach",
        metavar="SPAN",
        help="span of time before --until that is in the graph, such as 90d or 12h (default: all of it)",
    )
    parser.add_argument(
        "--until", type=int, help="time from which on nothing is in the graph, epoch ms (default: the end)"
    )
    parser.add_argument("--size", type=count, default=64, help="embedding size (default 64)")
    parser.add_argument("--layers", type=count, help="number of steps that a message goes (default: the model's own)")
    parser.add_argument("--no-skip", action="store_true", help="embed by the last layer alone, to see what depth does")
    parser.add_argument(
        "--passes",
        type=count,
        help="largest number of passes over the interactions (default 30, with --warm 2)",
    )
    parser.add_argument(
        "--loss",
        choices=LOSSES,
        default="softmax",
        help="loss that training minimises (default softmax)",
    )
    parser.add_argument(
        "--negatives", choices=NEGATIVES, default="uniform",
        help="how items that a user did not choose are drawn (default uniform)",
    )  # fmt: skip
    parser.add_argument(
        "--fan-out",
        type=count,
        metavar="N",
        help="number of neighbours drawn for a node at each step (default: all)",
    )
    parser.add_argument(
        "--parts",
        type=count,
        default=1,
        metavar="N",
        help="number of METIS partitions, trained one by one (default 1)",
    )
    parser.add_argument(
        "--processes",
        type=count,
        default=1,
        metavar="N",
        help="number of processes that share each batch (default 1)",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="device that computes; a GPU gives other bytes each time (default cpu)",
    )
    parser.add_argument(
        "--multitask", action="store_true", help="make each event type a task, which counts by its weight"
    )
    parser.add_argument("--fusion", choices=FUSIONS, help="way in which the content of items takes part")
    parser.add_argument(
        "--content",
        type=Path,
        help="Parquet file of item_id and embedding, of text or images (default: what the records of items say)",
    )
    parser.add_argument(
        "--warm", action="store_true", help="begin from the newest version in --out of such a model, if there is one"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a training of the same input and flags")
    add_setting_flags(parser, "bootstrap", "log", "seed", "field_map", "neo4j_user")
    add_json_flag(parser, "the manifest")


def run(arguments: argparse.Namespace) -> int:
    require("graph", "torch_geometric", "pymetis", "wordllama")
    if arguments.model == "session" and (arguments.fan_out or arguments.parts > 1):
        raise UsageError(
            "--fan-out, --parts: a part of the graph has no sessions; leave them out, or take another model"
        )
    settings = settings_of(arguments)
    window_ms = span_ms("--reach", arguments.reach) if arguments.reach is not None else None
    stream, items, users = _read(arguments, settings)
    if ends_here(arguments, stream):
        return 0
    table, refused, settings = stream.table, stream.refused, stream.settings
    if arguments.fusion and not (items or arguments.content):
        raise UsageError("--fusion: nothing is known of the items; give --items or --content")
    if arguments.content and not arguments.fusion:
        raise UsageError("--content: say with --fusion how it takes part")
    # threads that wait spin unless told otherwise: beside a busy process a pass took ten times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from streamer.embeddings.training import Work, check_device, find_until_ms, trained
    from streamer.embeddings.training_data import (  # torch loads after the file has been checked
        content_file,
        gather_source,
        make_content,
    )
    from streamer.embeddings.warm_start import begun_from

    check_device(arguments.device)
    work = Work(
        model=arguments.model, size=arguments.size, layers=arguments.layers, skip=not arguments.no_skip,
        window_ms=window_ms, until_ms=arguments.until, loss=arguments.loss, negatives=arguments.negatives,
        fan_out=arguments.fan_out, parts=arguments.parts, multitask=arguments.multitask, fusion=arguments.fusion,
        seed=settings.seed, device=arguments.device,
    )  # fmt: skip
    source = gather_source(table, EventWeights(settings.event_weights, settings.max_weight), items, users)
    begun = begun_from(arguments.out, asdict(work), find_until_ms(work, source)) if arguments.warm else None
    work = replace(work, begun=begun, passes=arguments.passes or (WARM_PASSES if begun else work.passes))
    content = None
    if arguments.fusion:
        content = content_file(source, arguments.content) if arguments.content else make_content(source, items)
    started = time.monotonic()
    with progress("train", work.passes, unit="passes") as advance:
        manifest = trained(source, work, arguments.out, arguments.resume, arguments.processes, advance, content)
    seconds = time.monotonic() - started
    print(json.dumps(manifest | {"refused": refused}) if arguments.json else _text(manifest, arguments.out, seconds))
    return 0


def _read(arguments: argparse.Namespace, settings: Settings) -> tuple[Stream, list[Item], list[User]]:
    """Interactions, and what is known of items and users.

    Raises DataRefused, UnknownTopic, GraphUnavailable.
    """
    if not re.match(r"(bolt|neo4j)(\+s|\+ssc)?://", arguments.source[0]):
        stream = read_stream(arguments, settings)
        stream = stream._replace(table=owned_rows(stream.table, stream.merges))
        return stream, *catalogue_of(arguments, settings)
    require("neo4j", "neo4j")
    from consumers.neo4j import GraphStore
    from streamer.sinks.graph import read_graph

    with GraphStore(arguments.source[0], settings.neo4j_user, settings.neo4j_password) as store:
        table, items, users = read_graph(store)
    return Stream(table, {}, settings, look_at(arguments.source[0], table, Refusals())), list(items), list(users)


def _text(manifest: dict[str, Any], folder: Path, seconds: float) -> str:
    recall = f", recall@20 {manifest['recall']:.4f} of the held-out interactions" if manifest["recall"] else ""
    begun = f", begun from {manifest['work']['begun']}" if manifest["work"]["begun"] else ""
    return (
        f"{folder / manifest['version']}: {counted(manifest['users'], 'user')} and "
        f"{counted(manifest['items'], 'item')} out of {counted(manifest['interactions'], 'interaction')}, "
        f"{counted(manifest['passes'], 'pass', 'passes')} in {seconds:.0f} s{recall}{begun}"
    )
