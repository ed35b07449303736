"""A filter: a text in CEL, checked once, then a mask over all items in one go.

What there is: fields of `item`, `user` and `context`, and `now`; literals, lists, timestamp("…"), duration("36h");
== != < <= > >= in, && || !, + - * / of numbers, times and durations, a ? b : c; has(item.x), size(), startsWith,
endsWith, contains, and item.tags.exists(t, …).

A comparison is false where a side is missing, or where their types do not fit. Where something is not true, `!` of it
is. `== null` asks whether something is missing. Numbers are doubles. A time compares with epoch ms and ISO 8601 too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from streamer.features.item_columns import ItemColumns, Values
from streamer.lists.filters import vectors
from streamer.lists.filters.syntax import FilterError, Node, parse

if TYPE_CHECKING:  # who reads rules loads no kernels
    from tgn.graph import U8

MAX_PATH = 8
ROOTS = ("item", "user", "context")


class HasColumns(Protocol):
    """What a filter reads of a catalogue."""

    @property
    def columns(self) -> ItemColumns: ...


class Filter:
    """A checked filter. `compile_filter` makes one."""

    def __init__(self, text: str, tree: Node) -> None:
        self.text, self.tree = text, tree
        self.item_only = not _reads(tree, ("user", "context", "now"))
        """Whether the mask stays the same until an item changes."""

    def fields(self) -> list[tuple[str, tuple[str, ...]]]:
        """What it reads: the root, item, user or context, and the names that lead to the value; each once."""
        found, waiting = dict[tuple[str, tuple[str, ...]], None](), [self.tree]
        while waiting:
            node = waiting.pop()
            if node.kind == "field":
                found[node.args[0], node.args[1]] = None
            else:
                waiting += node.children()
        return sorted(found)

    def mask(self, catalogue: HasColumns, now_ms: int, user: Mapping[str, Any], context: Mapping[str, Any]) -> U8:
        """[I] 1: the item passes.

        Args:
            catalogue: whose items.
            now_ms: the stream's clock, epoch ms.
            user: attributes of the user.
            context: of the request.
        """
        scope = _Scope(catalogue.columns, now_ms, {"user": user, "context": context}, None)
        passes = vectors.truth(_value(self.tree, scope))
        return np.broadcast_to(passes, catalogue.columns.rows()).astype(np.uint8)


def compile_filter(text: str) -> Filter:
    """Checks a filter. Raises FilterError.

    >>> compile_filter('item.price <= 20 && "sale" in item.tags').item_only
    True
    >>> compile_filter("item.price <= ")
    Traceback (most recent call last):
    ...
    streamer.lists.filters.syntax.FilterError: the filter ends too early (at character 15)
    """
    tree = _checked(parse(text), None)
    if (kind := kind_of(tree)) not in ("bool", "any"):
        raise FilterError(f"a filter is true or false, this is a {kind}", tree.at)
    return Filter(text, tree)


# checking


def _checked(node: Node, element: str | None) -> Node:
    """The same with names looked up; element: what an element is called here.

    It has the kinds literal, list, both, either, negate, minus, choose, compare, arithmetic as before, and field (root,
    names), now, element, has (field), size, time, span (node), test (name, node, node), exists (node, predicate).
    """
    match node.kind:
        case "literal":
            return node
        case "name" | "select":
            return _name(node, element)
        case "function" | "method":
            return _call(node, element)
    args = tuple(
        _checked(arg, element)
        if isinstance(arg, Node)
        else tuple(_checked(one, element) for one in arg)
        if isinstance(arg, tuple)
        else arg
        for arg in node.args
    )
    checked = Node(node.kind, args, node.at)
    _check_kinds(checked)
    if node.kind == "compare" and node.args[0] == "in" and node.args[2].kind == "list":
        return _one_of(checked)
    return checked


def _one_of(node: Node) -> Node:
    """`x in [1, 2, user.a]` as `x in [1, 2] || x == user.a`: what stands in a list then is the same for every item."""
    _, value, among = node.args
    literals = tuple(one for one in among.args[0] if one.kind == "literal" and one.args[0] is not None)
    others = [Node("compare", ("==", value, one), one.at) for one in among.args[0] if one not in literals]
    for other in others:
        _check_kinds(other)
    known = Node("compare", ("in", value, Node("list", (literals,), among.at)), node.at)
    return Node("either", (known, *others), node.at) if others else known


def _name(node: Node, element: str | None) -> Node:
    names: list[str] = []
    base = node
    while base.kind == "select":
        base, name = base.args
        names.insert(0, name)
    root = base.args[0] if base.kind == "name" else None
    if root is not None and root == element and not names:
        return Node("element", (), node.at)
    if root == "now" and not names:
        return Node("now", (), node.at)
    if root not in ROOTS:
        what = repr(root) if root is not None else "a field of what is no record"
        raise FilterError(f"{what} is not known here; there are item, user, context and now", base.at)
    if element is not None and root == "item":
        raise FilterError("inside exists() stands nothing of the item but the element", node.at)
    if not 1 <= len(names) <= MAX_PATH:
        raise FilterError(f"{root} stands with the name of a field: {root}.something", node.at)
    return Node("field", (root, tuple(names)), node.at)


def _call(node: Node, element: str | None) -> Node:
    subject, (name, arguments) = (None, node.args) if node.kind == "function" else (node.args[0], node.args[1:])
    given = ([] if subject is None else [subject]) + list(arguments)
    match name, len(given):
        case "has", 1 if subject is None:
            field = _checked(given[0], element)
            if field.kind != "field":
                raise FilterError("has() asks for a field: has(item.price)", node.at)
            return Node("has", (field,), node.at)
        case "size", 1:
            return Node("size", (_literals(_checked(given[0], element)),), node.at)
        case (("timestamp" | "duration"), 1) if subject is None:
            return _literal_time(name, _checked(given[0], element), node.at)
        case (("startsWith" | "endsWith" | "contains"), 2) if subject is not None:
            a, b = (_checked(one, element) for one in given)
            if _varies(a) and _varies(b):
                raise FilterError(f"one side of {name}() has to be the same for every item", node.at)
            return Node("test", (name, a, b), node.at)
        case "exists", 3 if subject is not None:
            variable = given[1]
            if variable.kind != "name" or variable.args[0] in (*ROOTS, "now"):
                raise FilterError('exists() names its element first: item.tags.exists(t, t == "a")', variable.at)
            lists = _literals(_checked(given[0], element))
            return Node("exists", (lists, _checked(given[2], variable.args[0])), node.at)
    known = "has(), size(), timestamp(), duration(), startsWith(), endsWith(), contains() and exists()"
    raise FilterError(f"{name}() with {len(arguments)} arguments is not known; there are {known}", node.at)


def _literals(node: Node) -> Node:
    if node.kind == "list" and any(one.kind != "literal" for one in node.args[0]):
        raise FilterError("a list holds nothing but literals here", node.at)
    return node


def _literal_time(name: str, argument: Node, at: int) -> Node:
    kind = "time" if name == "timestamp" else "span"
    if argument.kind == "literal":
        value = argument.args[0]
        parse_text = vectors.time_ms if kind == "time" else vectors.span_ms
        is_number = kind == "time" and isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (isinstance(value, str) and parse_text(value) == parse_text(value)):
            form = 'ISO 8601, as "2030-01-31T12:00:00Z"' if kind == "time" else 'a duration, as "36h" or "1h30m"'
            raise FilterError(f"{name}() takes {form}", argument.at)
    return Node(kind, (argument,), at)


_FITS = {"number": {"number", "time"}, "time": {"time", "number", "text"}, "text": {"text", "time"}}


def _check_kinds(node: Node) -> None:
    """Refuses what can never be true for the types of its parts."""
    if node.kind in ("both", "either", "negate"):
        for part in node.args:
            if kind_of(part) not in ("bool", "any"):
                raise FilterError(f"true or false is needed here, this is a {kind_of(part)}", part.at)
    elif node.kind == "compare":
        sign, left, right = node.args
        a, b = kind_of(left), kind_of(right)
        if sign == "in" and a != "null":
            if b not in ("list", "any"):
                raise FilterError(f"`in` looks into a list, this is a {b}", right.at)
        elif "null" in (a, b):
            if sign not in ("==", "!="):
                raise FilterError("null is compared with == and !=", node.at)
        elif "list" in (a, b) or ("any" not in (a, b) and b not in _FITS.get(a, {a})):
            raise FilterError(f"a {a} is not compared with a {b}", node.at)
    elif node.kind in ("arithmetic", "minus"):
        for part in node.args[node.kind == "arithmetic" :]:
            if kind_of(part) not in ("number", "time", "span", "any"):
                raise FilterError(f"nothing is calculated with a {kind_of(part)}", part.at)


def kind_of(node: Node) -> str:
    """bool, number, text, time, span, list or null; any: only its values say."""
    match node.kind:
        case "literal":
            value = node.args[0]
            kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}
            return kinds[type(value)]
        case "compare" | "both" | "either" | "negate" | "has" | "test" | "exists":
            return "bool"
        case "now" | "time":
            return "time"
        case "size":
            return "number"
        case "span" | "list":
            return node.kind
        case "choose":
            a, b = kind_of(node.args[1]), kind_of(node.args[2])
            return a if a == b else "any"
    return "any"


def _varies(node: Node) -> bool:
    """Whether its value may be another for each item."""
    return _reads(node, ("item", "element"))


def _reads(node: Node, names: tuple[str, ...]) -> bool:
    if node.kind == "field":
        return node.args[0] in names
    return node.kind in names or any(_reads(child, names) for child in node.children())


# evaluation


class _Scope(NamedTuple):
    columns: ItemColumns
    now_ms: int
    given: dict[str, Mapping[str, Any]]  # what is the same for every item, by root
    element: Values | None


def _value(node: Node, scope: _Scope) -> Values:
    match node.kind:
        case "literal":
            return vectors.constant(node.args[0])
        case "list":
            return vectors.constant([one.args[0] for one in node.args[0]])
        case "now":
            return Values(1, time=np.array([scope.now_ms], np.float64))
        case "element":
            assert scope.element is not None
            return scope.element
        case "field":
            return _field(node, scope)
        case "has":
            return vectors.flags(vectors.is_present(_field(node.args[0], scope)))
        case "both" | "either":
            join = np.logical_and if node.kind == "both" else np.logical_or
            truths = vectors.truth(_value(node.args[0], scope))
            for part in node.args[1:]:
                truths = join(truths, vectors.truth(_value(part, scope)))
            return vectors.flags(truths)
        case "negate":
            return vectors.flags(~vectors.truth(_value(node.args[0], scope)))
        case "compare":
            return vectors.flags(_compared(node, scope))
        case "arithmetic":
            sign, left, right = node.args
            return vectors.arithmetic(sign, _value(left, scope), _value(right, scope))
        case "choose":
            condition, then, otherwise = (_value(part, scope) for part in node.args)
            return vectors.choose(vectors.truth(condition), then, otherwise)
        case "test":
            name, subject, argument = node.args
            return vectors.flags(vectors.test_text(name, _value(subject, scope), _value(argument, scope)))
        case "exists":
            lists, predicate = node.args
            passes = vectors.exists(
                _value(lists, scope), lambda found: _value(predicate, scope._replace(element=found))
            )
            return vectors.flags(passes)
    of_one = {"minus": vectors.minus, "size": vectors.size_of, "time": vectors.times_of, "span": vectors.spans_of}
    return of_one[node.kind](_value(node.args[0], scope))


def _compared(node: Node, scope: _Scope) -> np.ndarray:
    sign, left, right = node.args
    if sign == "in":
        return vectors.is_in(_value(left, scope), _value(right, scope))
    for one, other in ((left, right), (right, left)):
        if kind_of(one) == "null":
            present = vectors.is_present(_value(other, scope))
            return present if sign == "!=" else ~present
    return vectors.compare(sign, _value(left, scope), _value(right, scope))


def _field(node: Node, scope: _Scope) -> Values:
    root, names = node.args
    if root == "item":
        return scope.columns.values(names)
    value: Any = scope.given[root]
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return vectors.constant(value)
