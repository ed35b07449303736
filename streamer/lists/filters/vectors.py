"""What filters do with values, for all rows at once. A vector of one row stands for the same value in every row.

What is missing, or of a type that does not fit, makes a comparison false in its row, and nothing here raises.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from consumers.decode_fields import Refused, parse_iso
from streamer.features.item_columns import Column, ListColumn, Texts, Values

if TYPE_CHECKING:  # who reads rules loads no kernels
    from tgn.graph import F64, I32

Bools = np.ndarray  # [N] bool
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
_TEXT_TESTS: dict[str, Callable[[Sequence[str], str], list[bool]]] = {
    "startsWith": lambda texts, part: [text.startswith(part) for text in texts],
    "endsWith": lambda texts, part: [text.endswith(part) for text in texts],
    "contains": lambda texts, part: [part in text for text in texts],
}
_PART_TESTS: dict[str, Callable[[Sequence[str], str], list[bool]]] = {
    "startsWith": lambda parts, text: [text.startswith(part) for part in parts],
    "endsWith": lambda parts, text: [text.endswith(part) for part in parts],
    "contains": lambda parts, text: [part in text for part in parts],
}
_SPAN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(d|h|ms|m|s|us|ns)")
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1, "us": 1e-3, "ns": 1e-6}
_FLOATS = ("number", "time", "span")


def constant(value: Any) -> Values:
    """A JSON value in every row."""
    column = Column()
    column.set([0], [value], 1)
    return column.values(1)


def flags(truths: Bools) -> Values:
    """Truths as values."""
    return Values(len(truths), flag=truths.astype(np.int8))


def truth(values: Values) -> Bools:
    """Which rows are true; what is neither true nor false is not."""
    return np.zeros(values.rows, bool) if values.flag is None else values.flag == 1


def is_present(values: Values) -> Bools:
    """Which rows have a value."""
    if values.present is not None:
        return values.present > 0
    found = np.zeros(values.rows, bool)
    for name in _FLOATS:
        part = getattr(values, name)
        if part is not None:
            found |= ~np.isnan(part)
    found |= values.flag >= 0 if values.flag is not None else False
    return found | (values.text.code >= 0) if values.text is not None else found


def compare(sign: str, a: Values, b: Values) -> Bools:
    """Which rows compare so; times compare with epoch ms and with texts of times too."""
    found, sign_of = np.zeros(_rows(a, b), bool), _SIGNS[sign]
    pairs = [(a.number, b.number), (a.time, b.time), (a.span, b.span), (a.time, b.number), (a.number, b.time)]
    pairs += [(a.time, _times(b.text))] if a.time is not None else []
    pairs += [(_times(a.text), b.time)] if b.time is not None else []
    for left, right in pairs:
        if left is not None and right is not None:
            found |= sign_of(left, right) & ~np.isnan(left) & ~np.isnan(right)
    if a.flag is not None and b.flag is not None:
        found |= sign_of(a.flag, b.flag) & (a.flag >= 0) & (b.flag >= 0)
    if a.text is not None and b.text is not None:
        found |= _compare_texts(sign, a.text, b.text)
    return found


def _compare_texts(sign: str, a: Texts, b: Texts) -> Bools:
    if not len(a.values) or not len(b.values):
        return np.zeros(max(len(a.code), len(b.code)), bool)
    known = (a.code >= 0) & (b.code >= 0)
    sign_of = _SIGNS[sign]
    if sign in ("==", "!="):
        if len(a.values) < len(b.values):
            a, b = b, a
        in_a = [-2 if (code := a.find(text)) is None else code for text in b.values]
        return np.asarray(known & sign_of(a.code, np.array(in_a)[b.code]))
    if len(b.values) == 1:
        other = b.values[0]
        return np.asarray(known & np.array([sign_of(text, other) for text in a.values])[a.code])
    if len(a.values) == 1:
        other = a.values[0]
        return np.asarray(known & np.array([sign_of(other, text) for text in b.values])[b.code])
    place = {text: n for n, text in enumerate(sorted({*a.values, *b.values}))}
    left, right = (np.array([place[text] for text in texts.values])[texts.code] for texts in (a, b))
    return np.asarray(known & sign_of(left, right))


def test_text(name: str, subject: Values, argument: Values) -> Bools:
    """startsWith, endsWith or contains; one of the two is the same in every row."""
    found = np.zeros(_rows(subject, argument), bool)
    a, b = subject.text, argument.text
    if a is None or b is None or not len(a.values) or not len(b.values):
        return found
    if len(b.code) == 1:
        passes = np.array(_TEXT_TESTS[name](a.values, b.values[int(b.code[0])]))[a.code]
    else:
        passes = np.array(_PART_TESTS[name](b.values, a.values[int(a.code[0])]))[b.code]
    return found | (passes & (a.code >= 0) & (b.code >= 0))


def is_in(values: Values, among: Values) -> Bools:
    """Which rows are an element of the list in their row."""
    lists = among.lists
    found = np.zeros(_rows(values, among), bool)
    if lists is None or not len(lists.code):
        return found
    if values.rows == 1:
        return _owners(lists, compare("==", values, lists.elements)[lists.code], found)
    if among.rows == 1:
        return _among(values, lists.elements)
    owned = np.flatnonzero(lists.owner >= 0)
    equal = compare("==", _rows_of(values, lists.owner[owned]), _rows_of(lists.elements, lists.code[owned]))
    found[lists.owner[owned[equal]]] = True
    return found


def exists(lists_of: Values, test: Callable[[Values], Values]) -> Bools:
    """Which rows have a list with an element that passes; test: values of the distinct elements → truths."""
    found, lists = np.zeros(lists_of.rows, bool), lists_of.lists
    if lists is None or not len(lists.code):
        return found
    passes = np.broadcast_to(truth(test(lists.elements)), lists.elements.rows)
    return _owners(lists, passes[lists.code], found)


def _owners(lists: ListColumn, passes: Bools, found: Bools) -> Bools:
    found[lists.owner[passes & (lists.owner >= 0)]] = True
    return found


def _among(values: Values, elements: Values) -> Bools:
    """Which rows are one of the elements of one list."""
    found = np.zeros(values.rows, bool)
    if values.number is not None and elements.number is not None:
        found |= np.isin(values.number, elements.number[~np.isnan(elements.number)])
    if values.flag is not None and elements.flag is not None:
        found |= np.isin(values.flag, elements.flag[elements.flag >= 0])
    if values.text is not None and elements.text is not None:
        codes = [code for text in elements.text.values if (code := values.text.find(text)) is not None]
        found |= np.isin(values.text.code, codes)
    if values.time is not None:
        for times in (elements.number, _times(elements.text)):
            found |= np.isin(values.time, times) if times is not None else False
    return found


def size_of(values: Values) -> Values:
    """Characters of texts, elements of lists."""
    number = np.full(values.rows, np.nan)
    if values.text is not None and len(values.text.values):
        lengths = np.array([len(text) for text in values.text.values], np.float64)
        number = np.where(values.text.code >= 0, lengths[values.text.code], number)
    if values.lists is not None:
        number = np.where(values.lists.size >= 0, values.lists.size, number)
    return Values(values.rows, number=number)


def arithmetic(sign: str, a: Values, b: Values) -> Values:
    """Sums and so on of numbers, of times and of spans of time; a division by 0 is missing."""
    if sign in "*/":
        return Values(_rows(a, b), number=_calculated(sign, a.number, b.number))
    minus = sign == "-"
    return Values(
        _rows(a, b),
        number=_calculated(sign, a.number, b.number),
        time=_first(_calculated(sign, a.time, b.span), None if minus else _calculated(sign, a.span, b.time)),
        span=_first(_calculated(sign, a.span, b.span), _calculated(sign, a.time, b.time) if minus else None),
    )


def minus(values: Values) -> Values:
    """The negative of numbers and of spans of time."""
    number, span = (None if part is None else -part for part in (values.number, values.span))
    return Values(values.rows, number=number, span=span)


_CALCULATIONS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


def _calculated(sign: str, a: F64 | None, b: F64 | None) -> F64 | None:
    if a is None or b is None:
        return None
    with np.errstate(all="ignore"):
        result = _CALCULATIONS[sign](a, b)
    return np.where(np.isfinite(result), result, np.nan)


def _first(a: F64 | None, b: F64 | None) -> F64 | None:
    """Row by row the one that is there."""
    if a is None or b is None:
        return b if a is None else a
    return np.where(np.isnan(a), b, a)


def times_of(values: Values) -> Values:
    """Times of texts in ISO 8601, and of numbers as epoch ms."""
    return Values(values.rows, time=_first(_first(values.time, values.number), _times(values.text)))


def spans_of(values: Values) -> Values:
    """Spans of time of texts such as 1h30m."""
    return Values(values.rows, span=_first(values.span, _parsed(values.text, span_ms)))


def _times(texts: Texts | None) -> F64 | None:
    return _parsed(texts, time_ms)


def _parsed(texts: Texts | None, parse: Callable[[str], float]) -> F64 | None:
    if texts is None or not len(texts.values):
        return None
    return np.where(texts.code >= 0, np.array([parse(text) for text in texts.values])[texts.code], np.nan)


def time_ms(text: str) -> float:
    """Epoch ms of a text in ISO 8601; NaN where it is none."""
    try:
        return float(parse_iso(text))
    except (Refused, OverflowError):
        return np.nan


def span_ms(text: str) -> float:
    """Ms of a span of time such as 1h30m or -2d; NaN where it is none."""
    sign, body = (-1, text[1:]) if text[:1] == "-" else (1, text)
    parts = _SPAN.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        return np.nan
    total = sign * sum(float(number) * _UNITS_MS[unit] for number, unit in parts)
    return total if np.isfinite(total) else np.nan


def choose(condition: Bools, a: Values, b: Values) -> Values:
    """Row by row the one where the condition is true, else the other; lists are missing."""
    rows = max(len(condition), _rows(a, b), key=lambda n: n != 1)
    parts: dict[str, Any] = {}
    for name, missing in (("number", np.nan), ("time", np.nan), ("span", np.nan), ("flag", np.int8(-1))):
        left, right = getattr(a, name), getattr(b, name)
        if left is not None or right is not None:
            chosen = np.where(condition, missing if left is None else left, missing if right is None else right)
            parts[name] = np.broadcast_to(chosen, rows)
    if a.text is not None or b.text is not None:
        parts["text"] = _chosen_texts(condition, a.text or _NO_TEXT, b.text or _NO_TEXT, rows)
    return Values(rows, **parts)


def _chosen_texts(condition: Bools, a: Texts, b: Texts, rows: int) -> Texts:
    code_of = {text: n for n, text in enumerate(dict.fromkeys((*a.values, *b.values)))}
    codes = [_recoded(texts, code_of) for texts in (a, b)]
    return Texts(np.broadcast_to(np.where(condition, *codes), rows), list(code_of), code_of.get)


def _recoded(texts: Texts, code_of: dict[str, int]) -> I32:
    table = np.array([*(code_of[text] for text in texts.values), -1], np.int32)
    return np.asarray(table[texts.code])  # −1, no text, is the last of the table


_NO_TEXT = Texts(np.full(1, -1, np.int32), [], lambda text: None)


def _rows_of(values: Values, rows: I32) -> Values:
    """The values of some rows, each as often as it is named."""
    text = values.text
    return Values(
        len(rows),
        number=None if values.number is None else values.number[rows],
        text=None if text is None else text._replace(code=text.code[rows]),
        flag=None if values.flag is None else values.flag[rows],
        time=None if values.time is None else values.time[rows],
        span=None if values.span is None else values.span[rows],
    )


def _rows(a: Values, b: Values) -> int:
    return b.rows if a.rows == 1 else a.rows
