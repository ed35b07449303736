"""`freshet explain`: why an item is in a user's list, and whether that is so."""

import argparse
import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.files.interactions import Reading, read_interactions
from consumers.log import Log
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.stream_flags import add_reading_flags, items_of, reading_of, stream_of_file
from streamer.errors import StateUnreadable, UsageError
from streamer.runtime.progress import progress
from streamer.runtime.topics import existing_log_of, records_of, whole
from streamer.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from tgn.counterfactual import Histories
    from tgn.model import Model

EXAMPLE = "freshet explain 42 --file interactions.parquet --items items.parquet"


class Known(NamedTuple):
    """What an explanation is made from."""

    model: "Model"
    histories: "Histories"
    now_ms: int
    titles: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="user whose list it is")
    parser.add_argument("item", metavar="ITEM", nargs="?", help="item to explain (default: the first of the list)")
    parser.add_argument(
        "--file", type=Path, help="file of interactions to take first, instead of the application's checkpoint"
    )
    parser.add_argument("--items", type=Path, help="file of items, for their titles (default: those of the topic)")
    add_reading_flags(parser)
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "field_map", "window"
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.file:
        found = stream_of_file(arguments.file, reading_of(arguments, settings), arguments.format, arguments.strict)
        known = known_of_file(arguments.file, settings, found.table)
        return _say(arguments, settings, known, found.refusals.counts())
    with existing_log_of(settings) as log:  # histories are read from it as they are needed
        return _say(arguments, settings, _of_application(log, settings))


def _say(arguments: argparse.Namespace, settings: Settings, known: Known, refused: dict[str, int] | None = None) -> int:
    from streamer.lists.explanation import explain, in_words, titles

    if arguments.items:
        known.titles.update(_titles(items_of(arguments.items, arguments.strict)))
    model = known.model
    user = _node(model.users.get(arguments.user), f"user {arguments.user}")
    item = _item(known, settings, user, arguments.item)
    explanation = explain(model, user, item, known.now_ms, known.histories, settings.exclude_seen)
    if arguments.json:
        answer = _as_json(asdict(explanation), model.items.ids)
        holds = explanation.check is not None and explanation.check.holds
        print(json.dumps(answer | {"holds": holds, "refused": refused or {}}))
    else:
        print(in_words(explanation, titles(known.titles, model.items.ids)))
    return 0


def known_of_file(file: Path, settings: Settings, table: "pa.Table | None" = None) -> Known:
    """Takes the file, or the table that it was read as, as `replay` does, and keeps what everybody did."""
    import numpy as np

    from streamer.engine.engine import Columns, Engine
    from streamer.evaluation.replay import ReplayOptions, TakenChunk, replay
    from tgn.repair import History

    if table is None:
        table = read_interactions(file, reading=Reading(settings.field_map))
    engine, parts = Engine(settings), list[Columns]()

    def keep(taken: TakenChunk) -> None:
        parts.append(taken.columns)

    with progress("taking", len(table)) as advance:
        result = replay(table, settings, ReplayOptions(), advance, keep, engine)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]

    def histories(users: Any) -> History:
        wanted = np.isin(columns[0], users)
        return History(*(column[wanted] for column in columns))

    kept = result.retractions.ledger.history if result.retractions else histories
    return Known(engine.model, kept, int(columns[2][-1]) if parts else 0, {})


def _of_application(log: Log, settings: Settings) -> Known:
    from streamer.state.stream_state import StreamState

    state = StreamState(settings, log.stored_state(settings.application).pages)
    if not state.load():
        raise StateUnreadable("there is no checkpoint yet; `freshet run` makes one, or give --file")
    return Known(state.engine.model, state.ledger.history, state.clock_ms, _titles_of_topic(log, settings.items_topic))


def _titles_of_topic(log: Log, topic: str) -> dict[str, str]:
    from consumers.decode import decode_item

    decoded = (decode_item(record.value) for record in records_of(log, whole(log, topic)) if record.value is not None)
    return {item.item_id: item.title or "" for item in decoded if item is not None}  # the newest record counts


def _titles(items: Any) -> dict[str, str]:
    return {item.item_id: item.title for item in items if item.title}


def _item(known: Known, settings: Settings, user: int, wanted: str | None) -> int:
    if wanted is not None:
        import numpy as np

        item = _node(known.model.items.get(wanted), f"item {wanted}")
        if settings.exclude_seen and item in known.histories(np.array([user])).item:
            raise UsageError(f"{wanted} is in no list of this user, who has had it: exclude_seen leaves such items out")
        return item
    listed = known.model.recommend(user, known.now_ms, settings.k, settings.exclude_seen)
    if not listed:
        raise UsageError("the list is empty: no item is known that the user has not had")
    return int(listed[0])


def _node(node: int | None, what: str) -> int:
    if node is None:
        raise UsageError(f"there is no {what}: no interaction with it has been taken")
    return node


def _as_json(value: Any, ids: list[str]) -> Any:
    """Tuples as objects, item indices as ids; the score of what is no candidate is null."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: ids[part] if key == "item" else _as_json(part, ids) for key, part in value.items()}
    return [_as_json(part, ids) for part in value] if isinstance(value, list) else value
