"""Files of rules, JSON or YAML: one object, or an array of one a surface; and the items that they may be about."""

import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml

from consumers.dead_letter import DeadLetter
from consumers.errors import DataRefused
from consumers.log import Log
from consumers.schemas import Item
from streamer.errors import RulesRefused
from streamer.features.item_columns import ItemColumns, item_bytes
from streamer.lists.rule_records import read_rules_to_apply
from streamer.lists.rule_warnings import NOTHING_KNOWN, check_conditions, warnings_of
from streamer.lists.rules import Rules
from streamer.runtime.decoders import node_decoder
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings

NOT_DESCRIBED = "the topic of items has no record of the item"


class KnownItems:
    """What is known of items, for warnings of rules.

    Args:
        records: of items.
        others: ids of items that have no record; None: that is not known.
    """

    def __init__(self, records: Iterable[Item], others: Collection[str] | None = None) -> None:
        kept = {item.item_id: item_bytes(item) for item in records}
        ids = list(kept)
        self._ids = {*ids, *(others or ())}
        self.unknown = NOT_DESCRIBED if others is None else NOTHING_KNOWN
        self.columns = ItemColumns(dict(enumerate(kept.values())), lambda: ids, lambda id_: None, lambda: len(ids))

    def is_item(self, item_id: str) -> bool:
        """Whether anything is known of an item."""
        return item_id in self._ids

    def check(self, every: Iterable[Rules], inside: str = "") -> None:
        """Raises RulesRefused where a condition is none for any of the items. inside: see `check_conditions`."""
        for rules in every:
            check_conditions(rules, self.columns, inside)

    def warnings(self, every: Iterable[Rules], main: str) -> list[dict[str, str]]:
        """What of rules can have no effect: `surface`, `field` and `message` of each. main: see `warnings_of`."""
        return [
            {"surface": rules.surface, **warning._asdict()}
            for rules in every
            for warning in warnings_of(rules, self.columns, self.is_item, main, self.unknown)
        ]


def items_of_topic(log: Log, settings: Settings) -> KnownItems:
    """What the topic of items says of them now. Items that interactions alone name are none of these."""
    found, decoder = dict[str, Item](), node_decoder(settings)
    there = settings.items_topic in log.topics([settings.items_topic])
    for record in read_records(log, whole(log, settings.items_topic)) if there else ():
        item = None if record.value is None else decoder.item(record)
        found.pop((record.key or b"").decode("utf-8", "replace"), None)
        if item is not None and not isinstance(item, DeadLetter):
            found[item.node.item_id] = item.node
    return KnownItems(found.values())


def say_warnings(warnings: Iterable[dict[str, str]]) -> None:
    """Says on stderr what of rules can have no effect, a line each."""
    for one in warnings:
        print(f"freshet: warning: {one['surface']}: {one['field']}: {one['message']}", file=sys.stderr)


def read_object_file(name: str) -> Any:
    """The object of a file, JSON or YAML. Raises RulesRefused, DataRefused where there is no file, OSError."""
    told = _parsed(name)
    if not isinstance(told, dict):
        raise RulesRefused(f"{name} is no object")
    return told


def _parsed(name: str) -> Any:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except FileNotFoundError:
        raise DataRefused(f"there is no file {name}") from None
    except UnicodeDecodeError as error:
        raise RulesRefused(f"{name} is no UTF-8: {error}") from None
    try:
        return yaml.safe_load(text)  # JSON is YAML too
    except RecursionError:
        raise RulesRefused(f"{name} is neither JSON nor YAML: nested too deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RulesRefused(f"{name} is neither JSON nor YAML{where}: {getattr(error, 'problem', error)}") from None


def read_rule_file(name: str) -> tuple[Rules, ...]:
    """The rules of a file. Raises RulesRefused with the place of what is wrong, and as `read_object_file`."""
    told = _parsed(name)
    objects = told if isinstance(told, list) else [told]
    if not objects:
        raise RulesRefused(f"{name} holds no rules")
    found: dict[str, Rules] = {}
    for n, one in enumerate(objects, 1):
        where = name if len(objects) == 1 else f"{name}, object {n}"
        if not isinstance(one, dict):
            raise RulesRefused(f'{where} is no object: rules look like {{"surface": "home", "filter": "…"}}')
        try:
            rules = read_rules_to_apply(one)
        except RulesRefused as refused:
            raise RulesRefused(f"{where}: {refused}", refused.field) from None
        if rules.surface in found:
            raise RulesRefused(f"{where}: surface: {rules.surface!r} is there twice", "surface")
        found[rules.surface] = rules
    return tuple(found.values())
