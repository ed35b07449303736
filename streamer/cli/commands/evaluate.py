"""`freshet evaluate`: what a file of lists is worth, by interactions, or by feedback on other lists."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from consumers.counted import counted
from consumers.decode_fields import UNDECODABLE, why_undecodable
from consumers.errors import DataRefused
from consumers.files.parquet import read_parquet
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import count, share
from streamer.cli.stream_flags import (
    add_after_flag,
    add_reading_flags,
    beside,
    ends_here,
    items_of,
    reading_of,
    stream_of_files,
)
from streamer.errors import UsageError
from streamer.monitoring.prequential_quality import AT

if TYPE_CHECKING:
    from streamer.evaluation.list_scores import Evaluation, SegmentScores

EXAMPLE = "freshet evaluate interactions.parquet lists.parquet --items items.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="files of interactions, as `replay` reads them, and last a file of lists, Parquet or JSONL: event (row "
        "number in time order), items (best first); with --feedback files of lists alone: list_id (that of the shown "
        "list in whose place it would have stood), items",
    )
    parser.add_argument(
        "--feedback",
        action="store_true",
        help="estimate what other lists would have brought, out of the topics of lists and feedback and the "
        "propensities that lists carry",
    )
    parser.add_argument(
        "--beside", metavar="SURFACE", help="with --feedback: other lists are the user's newest of this surface"
    )
    parser.add_argument(
        "--outcome",
        choices=("click", "conversion", "value"),
        help="with --feedback: what counts of a list, clicks (default), conversions, or their value less returns",
    )
    parser.add_argument(
        "--least-propensity",
        type=share,
        metavar="P",
        help="with --feedback: refuse where a place counts that was given with less (default 0.001)",
    )
    add_reading_flags(parser)
    parser.add_argument("--items", type=Path, help="file of items; diversity and calibration go by their categories")
    add_after_flag(parser)
    parser.add_argument(
        "--no-repeat", action="store_true", help="measure only what is new to the user, as --exclude-seen does"
    )
    parser.add_argument(
        "--at",
        type=count,
        metavar="K",
        help="number of places of a list that count (default 10, or as many as the longest list has)",
    )
    add_setting_flags(parser, "exclude_seen", "field_map", "bootstrap", "log", "application", "surface")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.feedback:
        from streamer.cli.off_policy_evaluation import evaluate_feedback

        return evaluate_feedback(arguments, settings_of(arguments))
    for flag in ("beside", "outcome", "least_propensity"):
        if getattr(arguments, flag) is not None:
            raise UsageError(f"--{flag.replace('_', '-')} is for --feedback")
    if len(arguments.files) < 2:
        raise UsageError("evaluate takes files of interactions and, last, a file of lists; or --feedback")
    return _by_interactions(arguments)


def _by_interactions(arguments: argparse.Namespace) -> int:
    from streamer.evaluation.list_scores import evaluate

    settings, (*interactions, lists_file) = settings_of(arguments), arguments.files
    stream = stream_of_files(arguments, settings, interactions)
    reading = beside(reading_of(arguments, settings))
    lists, items = _lists(lists_file), items_of(arguments.items, arguments.strict, reading, arguments.json)
    if ends_here(arguments, stream):
        return 0
    at = _places(lists, arguments.at)
    repeats = not (arguments.no_repeat or settings.exclude_seen)
    found = evaluate(stream.table, lists, items, arguments.measure_after, repeats, at)
    if found.unmatched:
        said = (
            f"{counted(found.unmatched, 'list', verb='are')} of events that {stream.look.source} has not, and left out"
        )
        print(f"freshet: warning: {said}", file=sys.stderr)
    refused = {"refused": stream.refused}
    print(json.dumps(_as_json(found, at) | refused) if arguments.json else _as_text(found, at))
    return 0


def _places(lists: pa.Table, asked: int | None) -> int:
    """How many places count, and a line where no list has as many."""
    from streamer.evaluation.list_scores import listed_ids

    longest = pc.max(pc.list_value_length(listed_ids(lists))).as_py() or AT
    at = asked or min(AT, longest)  # 0 places are refused before
    if longest < (asked or AT):
        therefore = f"--at {asked} counts places that none has" if asked else f"measured at {at}, not at {AT}"
        print(f"freshet: no list has more than {counted(longest, 'place')}: {therefore}", file=sys.stderr)
    return at


def _lists(file: Path) -> pa.Table:
    if not file.is_file():
        raise DataRefused(f"there is no file {file}")
    table = _read_lists(file)
    if missing := {"event", "items"} - set(table.column_names):
        raise DataRefused(f"{file} lacks {', '.join(sorted(missing))}; it has {', '.join(table.column_names)}")
    return table


def _read_lists(file: Path) -> pa.Table:
    """Lists of Parquet, or of JSON a line. Raises DataRefused."""
    with file.open("rb") as opened:
        if opened.read(4) == b"PAR1":
            return read_parquet(file, file)
    try:
        rows = [msgspec.json.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
        events = [float(row["event"]) for row in rows]
        items = [_parse_items(row["items"]) for row in rows]
    except (*UNDECODABLE, TypeError, KeyError) as error:
        raise DataRefused(
            f"{file} is neither Parquet nor JSON lines of event and items: {why_undecodable(error)}"
        ) from error
    if not rows:
        raise DataRefused(f"{file} holds no list")
    return pa.table({"event": pa.array(events, pa.float64()), "items": pa.array(items, pa.list_(pa.string()))})


def _parse_items(listed: Any) -> list[str] | None:
    if isinstance(listed, str):
        raise TypeError(f"items is the text {listed!r}, not a list")
    return None if listed is None else [str(item) for item in listed]


def _as_json(found: "Evaluation", k: int) -> dict[str, object]:
    parts = {name: [part._asdict() for part in getattr(found, name)] for name in ("by_user_age", "by_popularity")}
    counts = {"events": found.events, "without_list": found.without_list, "with_empty_list": found.with_empty_list}
    counts |= {"lists_with_seen_item": found.with_seen_item, "refused_measured": found.refused}
    return counts | {"at": k, "measures": found.measures} | parts


def _as_text(found: "Evaluation", k: int) -> str:
    lines = [
        f"{counted(found.events, 'event')} measured at {counted(k, 'place')}, {found.without_list:,} without a list"
    ]
    if found.with_empty_list:
        lines[0] += f", {found.with_empty_list:,} with an empty one"
    if found.refused:
        lines.append(
            f"{counted(found.refused, 'refused row', verb='are')} among them, a miss each unless the list has the "
            "item; `replay` measures without them"
        )
    lines.append("")
    lines += [f"{name:<16}{value:>9.4f}" for name, value in found.measures.items()]
    lines += _table("interactions of the user before", found.by_user_age)
    lines += _table("interactions of the item before the measured part", found.by_popularity)
    return "\n".join(lines)


def _table(title: str, parts: "list[SegmentScores]") -> list[str]:
    head = f"{title + ':':<52}{'events':>9}{'hr':>8}{'ndcg':>8}{'long tail':>11}"
    rows = [f"  {p.name:<50}{p.events:>9,}{p.hr:>8.4f}{p.ndcg:>8.4f}{p.long_tail_share:>11.4f}" for p in parts]
    return ["", head, *rows]
