"""`freshet explain`: why an item is in a user's list, and whether that is so."""

import argparse
import json
from contextlib import closing
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.files import read_interactions, read_items
from consumers.log import Log
from consumers.records import TopicPartition
from streamer.cli import add_setting_flags, settings_of
from streamer.errors import StateUnreadable, UsageError
from streamer.logs import open_log_of
from streamer.progress import progress
from streamer.settings import Settings

if TYPE_CHECKING:
    from tgn.explain import Histories
    from tgn.model import Model

EXAMPLE = "freshet explain 42 --file interactions.parquet --items items.parquet"
CHUNK = 50_000


class Known(NamedTuple):
    """What an explanation is made from."""

    model: "Model"
    histories: "Histories"
    now_ms: int
    titles: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="whose list")
    parser.add_argument(
        "item", metavar="ITEM", nargs="?", help="which item; the first of the list where it is left out"
    )
    parser.add_argument("--file", type=Path, help="interactions to take first, instead of the application's checkpoint")
    parser.add_argument("--items", type=Path, help="a file of items, for their titles; else those of the items topic")
    add_setting_flags(
        parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "field_map", "window"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.file:
        return _say(arguments, settings, known_of_file(arguments.file, settings))
    with closing(open_log_of(settings)) as log:  # histories are read from it as they are needed
        return _say(arguments, settings, _of_application(log, settings))


def _say(arguments: argparse.Namespace, settings: Settings, known: Known) -> int:
    from streamer.explanation import explain, in_words, titles

    if arguments.items:
        known.titles.update(_titles(read_items(arguments.items)))
    model = known.model
    user = _node(model.users.get(arguments.user), f"user {arguments.user}")
    item = _item(known, settings, user, arguments.item)
    explanation = explain(model, user, item, known.now_ms, known.histories, settings.exclude_seen)
    if arguments.json:
        answer = _as_json(asdict(explanation), model.items.ids)
        print(json.dumps(answer | {"holds": explanation.check is not None and explanation.check.holds}))
    else:
        print(in_words(explanation, titles(known.titles, model.items.ids)))
    return 0


def known_of_file(file: Path, settings: Settings) -> Known:
    """Takes the file as `replay` does, and keeps what everybody did."""
    import numpy as np
    import pyarrow.compute as pc

    from consumers.weights import EventWeights
    from streamer.engine import Columns, Engine
    from streamer.replay import weights_of
    from tgn.repair import History

    table = read_interactions(file, settings.field_map)
    table = table.filter(pc.is_null(table["reason"]))
    engine = Engine(settings)
    columns = engine.encode_table(table, weights_of(table, EventWeights(settings.event_weights)))
    with progress("taking", len(table)) as advance:
        for first in range(0, len(table), CHUNK):
            part = Columns(*(column[first : first + CHUNK] for column in columns))
            engine.take(part, publish=False)
            advance(len(part.user))

    def histories(users: Any) -> History:
        wanted = np.isin(columns.user, users)
        return History(*(column[wanted] for column in columns))

    return Known(engine.model, histories, int(columns.t[-1]) if len(table) else 0, {})


def _of_application(log: Log, settings: Settings) -> Known:
    from streamer.state import StreamState

    state = StreamState(settings, log.stored_state(settings.application).pages)
    if not state.load():
        raise StateUnreadable("there is no checkpoint yet; `freshet run` makes one, or give --file")
    return Known(state.engine.model, state.ledger.history, state.clock_ms, _titles_of_topic(log, settings.items_topic))


def _titles_of_topic(log: Log, topic: str) -> dict[str, str]:
    from consumers.decode import decode_item

    reader = log.reader({TopicPartition(topic, p): start for p, start in log.starts(topic).items()})
    ends, found = {TopicPartition(topic, p) for p in log.ends(topic)}, {}
    while True:
        records = reader.read(10_000, 0.5)
        for record in records:
            item = decode_item(record.value) if record.value is not None else None
            if item is not None and hasattr(item, "title"):
                found[item.item_id] = item.title or ""
        if not records and reader.at_end() >= ends:
            break
    reader.close()
    return found


def _titles(items: Any) -> dict[str, str]:
    return {item.item_id: item.title for item in items if item.title}


def _item(known: Known, settings: Settings, user: int, wanted: str | None) -> int:
    if wanted is not None:
        return _node(known.model.items.get(wanted), f"item {wanted}")
    listed = known.model.recommend(user, known.now_ms, settings.k, settings.exclude_seen)
    return _node(listed[0] if listed else None, "item in an empty list")


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
