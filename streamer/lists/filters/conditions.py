"""Whether what a filter takes for true or false can be that: by its text, and by the types of the values there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamer.features.item_columns import ItemColumns, Path, Values
from streamer.lists.filters.compiled import Filter, kind_of
from streamer.lists.filters.syntax import FilterError, Node

_CALCULATED = ("arithmetic", "minus")
_FITS = {
    "number": {"number", "time"},
    "text": {"text", "time"},
    "bool": {"flag"},
    "time": {"time", "number", "text"},
    "list": {"lists"},
}
"""What may be compared with a value of a type: types of the values of a field."""
_SAID = {"flag": "true or false", "lists": "a list", "number": "a number", "text": "a text", "time": "a time"}
_OF_A_FIELD = {bool: "flag", int: "number", float: "number", str: "text", list: "lists", tuple: "lists"}


def check_condition(filter_: Filter) -> None:
    """Raises FilterError where a part of a filter can be of no use, whatever the values: what it takes for true or
    false is a number or a time.

    >>> from streamer.lists.filters.compiled import compile_filter
    >>> check_condition(compile_filter("item.price + 1 > 2"))
    >>> check_condition(compile_filter("item.price + 1"))
    Traceback (most recent call last):
    ...
    streamer.lists.filters.syntax.FilterError: true or false is needed here, this is calculated (at character 1)
    """
    for node in _taken_as_true(filter_.tree, True):
        if node.kind in _CALCULATED:
            raise FilterError("true or false is needed here, this is calculated", node.at)
        if (kind := kind_of(node)) not in ("bool", "any"):
            raise FilterError(f"true or false is needed here, this is a {kind}", node.at)
    for node in _all_nodes(filter_.tree):
        if node.kind == "size" and (kind := kind_of(node.args[0])) not in ("text", "list", "any"):
            raise FilterError(f"size() is of a text or of a list, this is a {kind}", node.at)


def check_values(
    filter_: Filter,
    columns: ItemColumns,
    user: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> None:
    """Raises FilterError where a field that is taken for true or false has values, and none of them is that.

    Args:
        columns: of the items that are known.
        user, context: what is given of them; None: that is not known.
    """
    given = {"user": user, "context": context}
    for node in _taken_as_true(filter_.tree, True):
        if node.kind != "field":
            continue
        root, names = node.args
        kinds = types_of(columns.values(names)) if root == "item" else _type_given(given[root], names)
        if kinds and "flag" not in kinds:
            name = ".".join((root, *names))
            raise FilterError(f"{name} is {in_words(kinds)}, not true or false: compare it with something", node.at)


def unlike(filter_: Filter, columns: ItemColumns) -> Iterator[tuple[Path, str]]:
    """Fields of items that are compared with something that none of their values is like, and how that is called."""
    for node in _all_nodes(filter_.tree):
        if node.kind != "compare":
            continue
        sign, left, right = node.args
        for field, other in ((left, right), (right, left)):
            if field.kind != "field" or field.args[0] != "item":
                continue
            among = sign == "in" and other is right and other.kind == "list"
            wanted = {kind_of(one) for one in other.args[0]} if among else {_looked_for(sign, field is right, other)}
            kinds = types_of(columns.values(field.args[1]))
            if kinds and wanted and not any(kinds & _FITS.get(kind, kinds) for kind in wanted):
                names = sorted({_SAID[min(_FITS[kind])] for kind in wanted})
                yield field.args[1], " or ".join(names)


def types_of(values: Values) -> set[str]:
    """Of the values that a column has, or has had; empty: it has none."""
    if values.present is None or not values.present.any():
        return set()
    return {name for name in _SAID if getattr(values, name) is not None} or {"other"}


def in_words(kinds: set[str]) -> str:
    """What values of these types are."""
    return " or ".join(_SAID.get(kind, "an object") for kind in sorted(kinds))


def _looked_for(sign: str, is_right: bool, other: Node) -> str:
    """The type that a field has to have for it to be like the other side."""
    if sign == "in":
        return "list" if is_right else "any"
    return "any" if other.kind in _CALCULATED else kind_of(other)


def _type_given(given: Mapping[str, Any] | None, names: Path) -> set[str]:
    value: Any = given
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return set() if value is None else {_OF_A_FIELD.get(type(value), "other")}


def _taken_as_true(node: Node, wanted: bool) -> Iterator[Node]:
    """The parts of a tree, as small as can be, that have to be true or false."""
    match node.kind:
        case "both" | "either" | "negate":
            for part in node.args:
                yield from _taken_as_true(part, True)
        case "choose":
            for part, is_wanted in zip(node.args, (True, wanted, wanted), strict=True):
                yield from _taken_as_true(part, is_wanted)
        case "exists":
            yield from _taken_as_true(node.args[0], False)
            yield from _taken_as_true(node.args[1], True)
        case _:
            if wanted:
                yield node
            for child in _parts(node):
                yield from _taken_as_true(child, False)


def _all_nodes(tree: Node) -> Iterator[Node]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += _parts(node)


def _parts(node: Node) -> tuple[Node, ...]:
    return () if node.kind == "field" else tuple(node.children())  # those of a field are names
