"""What is taken for true or false has to be that: said at once where the text shows it, else where values do."""

from typing import Any

import pytest

from streamer.lists.filters.compiled import compile_filter
from streamer.lists.filters.conditions import check_condition, check_values, unlike
from streamer.lists.filters.syntax import FilterError
from streamer.lists.rule_warnings import fields_without_effect
from tests.streamer.lists.filters.test_filters import CONTEXT, SHELF, USER


@pytest.mark.parametrize(
    "text",
    [
        "1 + 1",
        "item.price + 1",
        "-item.price",
        "!(item.price - 1)",
        'now - duration("1h")',
        "item.ok && item.price * 2",
        "item.ok ? item.price + 1 : item.ok",
        "1 ? true : false",
        "item.tags.exists(t, 1 + 1)",
        "(item.price * 2 ? 1 : 2) == 1",
        "size(5) > 1",
    ],
)
def test_what_is_calculated_is_no_condition(text: str) -> None:
    with pytest.raises(FilterError):
        check_condition(compile_filter(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item.price", "item.price is a number or a text, not true or false"),
        ("!item.price", "item.price is a number or a text, not"),
        ("item.ok && item.tags", "item.tags is a list"),
        ("item.size", "item.size is an object"),
        ("item.title ? item.ok : true", "item.title is a text"),
        ("item.expires_at", "item.expires_at is a time"),
        ("item.brand == 'leaf' || user.plan", "user.plan is a text"),
        ("context.count", "context.count is a number"),
        ("(item.title && item.ok) == true", "item.title is a text"),
    ],
)
def test_a_field_without_a_truth_is_no_condition(text: str, said: str) -> None:
    found = compile_filter(text)
    check_condition(found)
    with pytest.raises(FilterError, match=said):
        check_values(found, SHELF.columns, USER, CONTEXT)


@pytest.mark.parametrize(
    "text",
    [
        "item.ok",
        "!item.hidden",
        "item.nobody_has_it",
        "user.nothing || context.nothing",
        "item.tags.exists(t, t == 'sale')",
        "item.ok ? item.price > 3 : item.price < 3",
        "item.price + 1 > 2",
        "item.price == 3 == true",
        "size(item.tags) > 1",
    ],
)
def test_conditions_stay_conditions(text: str) -> None:
    found = compile_filter(text)
    check_condition(found)
    check_values(found, SHELF.columns, USER, CONTEXT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.title == 5", [("title", "a number")]),
        ("5 < item.title", [("title", "a number")]),
        ("item.ok == 1", [("ok", "a number")]),
        ('item.ok in ["yes", 1]', [("ok", "a number or a text")]),
        ('"a" in item.brand', [("brand", "a list")]),
        ("item.price == 3 && item.price == '30'", []),
        ("item.title == null", []),
        ("item.nobody_has_it == 1", []),
        ("item.expires_at > 5 && item.expires_at > '2020-01-01' && item.timestamp < now", []),
        ('item.title == item.price || "sale" in item.tags', []),
    ],
)
def test_what_no_value_is_like_is_named(text: str, expected: list[Any]) -> None:
    assert [(".".join(names), kind) for names, kind in unlike(compile_filter(text), SHELF.columns)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item.brand > 5", "it is a text where it is known; cells of a CSV are texts: JSON and Parquet have numbers"),
        ("item.ok == 1", "it is true or false where it is known"),
    ],
)
def test_it_is_said_what_the_values_are(text: str, said: str) -> None:
    (warning,) = fields_without_effect("filter", compile_filter(text), SHELF.columns)
    assert warning.message.endswith(f": {said}")
