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
from streamer.cli.stream_flags import add_reading_flags, beside, ends_here, items_of, reading_of, stream_of_files
from streamer.errors import StateUnreadable, UsageError
from streamer.runtime.progress import progress
from streamer.runtime.topics import open_existing_log
from streamer.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from tgn.asking.counterfactual import Histories
    from tgn.model import Model

EXAMPLE = "freshet explain 42 --file interactions.parquet --items items.parquet"


class ExplainedState(NamedTuple):
    """What an explanation is made from."""

    model: "Model"
    histories: "Histories"
    now_ms: int
    titles: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="user whose list it is")
    parser.add_argument("item", metavar="ITEM", nargs="?", help="item to explain (default: the first of the list)")
    parser.add_argument(
        "--file", type=Path, action="append", metavar="FILE",
        help="file of interactions to take first, instead of the application's checkpoint; may be given several times",
    )  # fmt: skip
    parser.add_argument("--items", type=Path, help="file of items, for their titles (default: those of the topic)")
    add_reading_flags(parser)
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "field_map", "window"
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.file:
        found = stream_of_files(arguments, settings, arguments.file)
        if ends_here(arguments, found):
            return 0
        known = known_of_file(arguments.file[0], found.settings, found.table)
        return _say(arguments, found.settings, known, found.refused)
    with open_existing_log(settings) as log:  # histories are read from it as they are needed
        return _say(arguments, settings, _of_application(log, settings))


def _say(
    arguments: argparse.Namespace, settings: Settings, known: ExplainedState, refused: dict[str, int] | None = None
) -> int:
    from streamer.lists.explanation import explain, in_words, titles

    if arguments.items:
        reading = beside(reading_of(arguments, settings))
        known.titles.update(_titles(items_of(arguments.items, arguments.strict, reading)))
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


def known_of_file(file: Path, settings: Settings, table: "pa.Table | None" = None) -> ExplainedState:
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
    return ExplainedState(engine.model, kept, int(columns[2][-1]) if parts else 0, {})


def _of_application(log: Log, settings: Settings) -> ExplainedState:
    from streamer.state.stream_state import StreamState
    from streamer.worker.node_topics import restore_catalogue

    state = StreamState(settings, log.stored_state(settings.application).pages)
    if not state.load():
        raise StateUnreadable("there is no checkpoint yet; `freshet run` makes one, or give --file")
    restore_catalogue(log, settings, state)
    ids = state.engine.model.items.ids
    titles = {id_: title for node, id_ in enumerate(ids) if (title := state.catalogue.title_of(node))}
    return ExplainedState(state.engine.model, state.ledger.history, state.clock_ms, titles)


def _titles(items: Any) -> dict[str, str]:
    return {item.item_id: item.title for item in items if item.title}


def _item(known: ExplainedState, settings: Settings, user: int, wanted: str | None) -> int:
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
