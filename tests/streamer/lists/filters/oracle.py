"""Filters once more, slowly: one item after the other, in plain Python values, by the rules in `compiled.py`."""

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from consumers.schemas import Item
from streamer.lists.filters.syntax import Node
from streamer.lists.filters.vectors import span_ms, time_ms


class Time(NamedTuple):
    ms: float


class Span(NamedTuple):
    ms: float


SIGNS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
RECORD = ("item_id", "title", "hidden", "timestamp", "available_from", "expires_at")


def fields_of(item: Item) -> dict[str, Any]:
    """What `item.…` finds."""
    known: dict[str, Any] = {"category": item.categories[0]} if item.categories else {}
    known |= item.attributes or {}
    if item.categories:
        known["categories"] = list(item.categories)
    for name in RECORD:
        value = getattr(item, name)
        known[name] = Time(value) if name in RECORD[3:] and value is not None else value
    return known


def passes(
    node: Node, item: Mapping[str, Any], now_ms: int, user: Mapping[str, Any], context: Mapping[str, Any]
) -> bool:
    """Whether an item of these fields passes the tree that `parse` gives."""
    names = {"item": item, "user": user, "context": context, "now": Time(now_ms)}
    return value_of(node, names) is True


def value_of(node: Node, names: Mapping[str, Any]) -> Any:
    """None: missing."""
    match node.kind:
        case "literal":
            return node.args[0]
        case "name":
            return names[node.args[0]]
        case "select":
            inside = value_of(node.args[0], names)
            return inside.get(node.args[1]) if isinstance(inside, dict) else None
        case "list":
            return [value_of(one, names) for one in node.args[0]]
        case "negate":
            return value_of(node.args[0], names) is not True
        case "both":
            return all(value_of(part, names) is True for part in node.args)
        case "either":
            return any(value_of(part, names) is True for part in node.args)
        case "choose":
            chosen = value_of(node.args[1 if value_of(node.args[0], names) is True else 2], names)
            return None if isinstance(chosen, list) else chosen
        case "compare":
            return compared(node, names)
        case "arithmetic":
            return calculated(node.args[0], *(value_of(part, names) for part in node.args[1:]))
        case "minus":
            value = value_of(node.args[0], names)
            return Span(-value.ms) if isinstance(value, Span) else -value if is_number(value) else None
    return called(node, names)


def called(node: Node, names: Mapping[str, Any]) -> Any:
    if node.kind == "function":
        name, arguments = node.args
    else:
        name, arguments = node.args[1], (node.args[0], *node.args[2])
    if name == "exists":
        among, variable, predicate = value_of(arguments[0], names), arguments[1].args[0], arguments[2]
        return isinstance(among, list) and any(value_of(predicate, {**names, variable: one}) is True for one in among)
    values = [value_of(one, names) for one in arguments]
    first = values[0]
    match name:
        case "has":
            return first is not None
        case "size":
            return len(first) if isinstance(first, str | list) else None
        case "timestamp":
            return as_time(first)
        case "duration":
            ms = span_ms(first) if isinstance(first, str) else math.nan
            return first if isinstance(first, Span) else None if math.isnan(ms) else Span(ms)
    if not all(isinstance(value, str) for value in values):
        return False
    tests = {"startsWith": str.startswith, "endsWith": str.endswith, "contains": str.__contains__}
    return tests[name](*values)


def compared(node: Node, names: Mapping[str, Any]) -> bool:
    sign, left, right = node.args
    a, b = value_of(left, names), value_of(right, names)
    if sign == "in":
        literal_null = right.kind == "list" and any(
            one.kind == "literal" and one.args[0] is None for one in right.args[0]
        )
        return isinstance(b, list) and (any(fits("==", a, one) for one in b) or (literal_null and a is None))
    for side, other in ((left, b), (right, a)):
        if side.kind == "literal" and side.args[0] is None:
            return (other is None) == (sign == "==")
    return fits(sign, a, b)


def fits(sign: str, a: Any, b: Any) -> bool:
    if isinstance(a, Time) != isinstance(b, Time):
        a, b = as_time(a), as_time(b)
    if is_number(a) and is_number(b):
        return SIGNS[sign](float(a), float(b))
    if type(a) is type(b) and isinstance(a, bool | str | Time | Span):
        return SIGNS[sign](a, b)
    return False


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_time(value: Any) -> Time | None:
    if isinstance(value, str):
        value = time_ms(value)
        return None if math.isnan(value) else Time(value)
    return value if isinstance(value, Time) else Time(value) if is_number(value) else None


def calculated(sign: str, a: Any, b: Any) -> Any:
    signs = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
    if is_number(a) and is_number(b):
        try:
            value = signs[sign](float(a), float(b))
        except (ZeroDivisionError, OverflowError):
            return None
        return value if math.isfinite(value) else None
    if sign in "+-":
        kinds = {(Time, Span): Time, (Span, Span): Span} | (
            {(Span, Time): Time} if sign == "+" else {(Time, Time): Span}
        )
        if kind := kinds.get((type(a), type(b))):
            return kind(signs[sign](float(a.ms), float(b.ms)))
    return None
