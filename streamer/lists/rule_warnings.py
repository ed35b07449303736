"""What of rules can have no effect by what is known now: no error, since an item or a field may come later."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from consumers.schemas import CONTEXT_NAMES
from streamer.errors import RulesRefused
from streamer.features.item_columns import ItemColumns
from streamer.lists.filters.compiled import Filter, compile_filter
from streamer.lists.filters.conditions import check_values, in_words, types_of, unlike
from streamer.lists.filters.syntax import FilterError
from streamer.lists.rules import ExperimentArm, Rules

_A_NUMBER_AS_TEXT = ("a number", "a text")
NOTHING_KNOWN = "nothing is known of the item"
NO_CONTEXT = "lists that are published are made without a context: none of them has an item by this filter"


class RuleWarning(NamedTuple):
    """`field`: the place in the rules, as `pins.0.item_id`; `message`: one line."""

    field: str
    message: str


def warnings_of(
    rules: Rules, columns: ItemColumns, is_item: Callable[[str], bool], main: str, unknown: str = NOTHING_KNOWN
) -> list[RuleWarning]:
    """What names no item, no field of an item, and no context that requests or lists are known to have.

    Args:
        columns: of all items that are known.
        is_item: whether anything is known of an item.
        main: the surface that is published where its rules do not say otherwise.
        unknown: what is said of an item of which that is not so.
    """
    found = [
        RuleWarning(f"pins.{n}.item_id", f"{unknown} {pin.item_id!r}")
        for n, pin in enumerate(rules.pins)
        if not is_item(pin.item_id)
    ]
    for n, quota in enumerate(rules.quotas):
        if not _has_values(columns, quota.path()):
            found.append(RuleWarning(f"quotas.{n}.per", f"no item has the field {'.'.join(quota.path())!r}"))
    is_published = rules.surface == main if rules.publish is None else rules.publish
    for field, text in conditions_of(rules):
        condition = compile_filter(text)
        fields = condition.fields()
        if field == "filter" and is_published and any(root == "context" for root, _ in fields):
            found.append(RuleWarning(field, NO_CONTEXT))
            continue
        found += fields_without_effect(field, condition, columns)
        for root, names in fields:
            if root == "context" and names[0] not in CONTEXT_NAMES:
                name = ".".join(names)
                message = f"context.{name} is there only where a request gives it: interactions have none of it"
                found.append(RuleWarning(field, message))
    return found


def fields_without_effect(field: str, condition: Filter, columns: ItemColumns) -> list[RuleWarning]:
    """The fields of items that a condition reads and no item has, or compares with what no value of theirs is like.

    field: the place of the condition.
    """
    read = [names for root, names in condition.fields() if root == "item"]
    found = [f"no item has the field {'.'.join(names)!r}" for names in read if not _has_values(columns, names)]
    for names, kind in unlike(condition, columns):
        there = in_words(types_of(columns.values(names)))
        typed = (
            "; cells of a CSV are texts: JSON and Parquet have numbers" if (kind, there) == _A_NUMBER_AS_TEXT else ""
        )
        found.append(f"no item has {kind} in the field {'.'.join(names)!r}: it is {there} where it is known{typed}")
    return [RuleWarning(field, message) for message in found]


def check_conditions(rules: Rules, columns: ItemColumns, inside: str = "") -> None:
    """Raises RulesRefused where what a condition takes for true or false is something else for all items.

    inside: the place of the rules, such as `arms.1.`.
    """
    for field, text in conditions_of(rules):
        try:
            check_values(compile_filter(text), columns)
        except FilterError as error:
            raise RulesRefused(f"{inside}{field}: {error}", f"{inside}{field}") from None


def warnings_of_arms(
    surface: str,
    arms: Sequence[ExperimentArm],
    columns: ItemColumns,
    is_item: Callable[[str], bool],
    main: str,
    unknown: str = NOTHING_KNOWN,
) -> list[RuleWarning]:
    """The same of the arms of an experiment; `field` as `arms.1.pins.0.item_id`."""
    found = []
    for n, arm in enumerate(arms):
        of_arm = warnings_of(Rules(surface=surface).of_arm(arm), columns, is_item, main, unknown)
        found += [RuleWarning(f"arms.{n}.{field}", message) for field, message in of_arm]
    return found


def conditions_of(rules: Rules) -> Iterator[tuple[str, str]]:
    """The place and the text of each condition."""
    if rules.filter is not None:
        yield "filter", rules.filter
    for n, boost in enumerate(rules.boosts):
        yield f"boosts.{n}.if", boost.condition
    for n, pin in enumerate(rules.pins):
        if pin.condition is not None:
            yield f"pins.{n}.if", pin.condition


def _has_values(columns: ItemColumns, path: tuple[str, ...]) -> bool:
    present = columns.values(path).present
    return present is not None and bool(np.any(present))
