"""What `freshet evaluate --feedback` does: other lists judged by the feedback of those that were shown."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from consumers.counted import agreeing, counted
from consumers.decode_fields import UNDECODABLE, why_undecodable
from consumers.errors import DataRefused, UnknownTopic
from consumers.files.parquet import read_parquet
from streamer.errors import UsageError
from streamer.evaluation.feedback_lists import FeedbackLog, Outcome, read_feedback, rows_of
from streamer.evaluation.off_policy import OffPolicy, off_policy
from streamer.runtime.topics import open_existing_log
from streamer.settings import Settings

OF_INTERACTIONS = ("items", "no_repeat", "at")
NAMES = {"ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}
OUTCOMES = {"click": "clicks a list", "conversion": "conversions a list", "value": "value a list"}


def evaluate_feedback(arguments: argparse.Namespace, settings: Settings) -> int:
    """Prints what each policy would have brought; 3 where one of them cannot be judged."""
    if not arguments.files and arguments.beside is None:
        raise UsageError("evaluate --feedback takes files of other lists, or --beside SURFACE")
    for name in OF_INTERACTIONS:
        if getattr(arguments, name, None):
            raise UsageError(f"--{name.replace('_', '-')} is for lists that are measured by interactions")
    outcome: Outcome = arguments.outcome or "click"
    least = arguments.least_propensity or 0.001
    with open_existing_log(settings) as log:
        try:
            read = read_feedback(log, settings, settings.surface, outcome, arguments.beside)
        except UnknownTopic as error:
            raise DataRefused(
                f"{error}: there are no lists, or no feedback on them, to judge others by; `freshet run` publishes "
                "lists, and what came of them is sent to /v1/feedback with their list_id"
            ) from None
    if not read.keys:
        raise DataRefused(
            f"no list of {settings.surface!r} was shown, as far as feedback says: it takes impressions, sent to "
            "/v1/feedback with their list_id"
        )
    if read.without_impression:
        said = (
            f"{counted(read.without_impression, 'list', verb='have')} clicks or purchases and no impression: left out"
        )
        print(f"freshet: warning: {said}", file=sys.stderr)
    told = {name: _judged(read, others, least) for name, others in _policies(arguments, read)}
    if arguments.json:
        found = {name: _as_json(one) | {"without_list": len(read.keys) - one.lists} for name, one in told.items()}
        print(json.dumps({"outcome": outcome, "surface": settings.surface, "policies": found}))
    else:
        print("\n\n".join(_in_words(name, one, len(read.keys), outcome) for name, one in told.items()))
    return DataRefused.exit_code if any(one.refusal for one in told.values()) else 0


def _policies(arguments: argparse.Namespace, read: FeedbackLog) -> Iterator[tuple[str, dict[int, list[str]]]]:
    """Name, and row of a shown list → the items of the other list."""
    if arguments.beside is not None:
        yield arguments.beside, {n: items for n, items in enumerate(read.beside) if items is not None}
    for file in arguments.files:
        rows = {list_id: n for n, (_, list_id) in enumerate(read.keys)}
        yield file.name, {rows[list_id]: items for list_id, items in _lists_of(file) if list_id in rows}


def _judged(read: FeedbackLog, others: Mapping[int, list[str]], least: float) -> OffPolicy:
    return off_policy(*rows_of(read, others), least)


def _lists_of(file: Path) -> Iterator[tuple[str, list[str]]]:
    """list_id and items, of Parquet or of JSON a line. Raises DataRefused."""
    if not file.is_file():
        raise DataRefused(f"there is no file {file}")
    try:
        with file.open("rb") as opened:
            rows = (
                read_parquet(file, file).to_pylist()
                if opened.read(4) == b"PAR1"
                else [msgspec.json.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
            )
        found = [(str(row["list_id"]), [str(item) for item in _array(row["items"])]) for row in rows]
    except (*UNDECODABLE, TypeError, KeyError) as error:
        raise DataRefused(
            f"{file} is neither Parquet nor JSON lines of list_id and items: {why_undecodable(error)}"
        ) from error
    yield from found


def _array(items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise TypeError(f"items is {items!r}, not a list")
    return items


def _in_words(name: str, found: OffPolicy, shown: int, outcome: str) -> str:
    have, users = agreeing(found.lists, "have"), counted(found.users, "user")
    lines = [f"{name}: {found.lists:,} of {shown:,} shown lists {have} another one beside them; {users}"]
    if found.lists:
        lines.append(f"  {'as shown':<15}{found.shown:>9.4f}  {OUTCOMES[outcome]}")
    for key, one in found.estimates.items():
        interval = f"95 % [{one.low:.4f}, {one.high:.4f}]"
        against = f"{one.difference:+.4f} [{one.difference_low:+.4f}, {one.difference_high:+.4f}]: {one.verdict}"
        lines.append(f"  {NAMES[key]:<15}{one.value:>9.4f}  {interval}; beside as shown {against}")
    if found.refusal is not None:
        lines.append(f"  cannot be judged: {found.refusal}")
    else:
        lines.append(
            f"  the lists count as {found.effective:,.0f} by their weights at place {found.effective_place}, which has "
            f"fewest; weights are {found.support:.3f} on average, 1 where all could have been shown"
        )
    return "\n".join(lines)


def _as_json(found: OffPolicy) -> dict[str, Any]:
    estimates = {name: one._asdict() | {"verdict": one.verdict} for name, one in found.estimates.items()}
    shown = None if math.isnan(found.shown) else found.shown
    return found._asdict() | {"estimates": estimates, "shown": shown}
