"""Filters are those of a slow reading of the same rules, refuse what they do not know, and never raise later."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consumers.schemas import Item
from streamer.features.item_columns import ItemColumns, item_bytes
from streamer.lists.filters.compiled import compile_filter
from streamer.lists.filters.syntax import MAX_CHARS, MAX_COST, MAX_DEPTH, FilterError, parse
from tests.streamer.lists.filters.oracle import fields_of, passes

NOW_MS = 1_600_000_000_000
DAY_MS = 86_400_000


class Shelf:
    """Items in columns; the last rows are of items without a record."""

    def __init__(self, items: Sequence[Item], bare: int = 0) -> None:
        self.items = [*items, *(Item(f"bare{n}") for n in range(bare))]
        self.records = {n: item_bytes(item) for n, item in enumerate(items)}
        ids = [item.item_id for item in self.items]
        index = {id_: n for n, id_ in enumerate(ids)}
        self.columns = ItemColumns(self.records, lambda: ids, index.get, lambda: len(ids) + 3)

    def fields(self, n: int) -> dict[str, Any]:
        return fields_of(self.items[n]) if n in self.records else {"item_id": self.items[n].item_id}

    def change(self, n: int, item: Item) -> None:
        self.items[n] = item
        self.records[n] = item_bytes(item)
        self.columns.note(n)

    def passing(self, text: str, user: dict[str, Any] | None = None, context: dict[str, Any] | None = None) -> set[str]:
        mask = compile_filter(text).mask(SimpleNamespace(columns=self.columns), NOW_MS, user or {}, context or {})
        assert mask.dtype == np.uint8
        assert len(mask) == self.columns.rows()
        return {item.item_id for item, passed in zip(self.items, mask.tolist(), strict=False) if passed}


SHELF = Shelf(
    [
        Item("tea", "Green tea", ("drinks", "hot"), 1_000, {"price": 3, "brand": "leaf", "tags": ["sale", "new"], "ok": True}),
        Item("pot", None, ("kitchen",), None, {"price": "30", "brand": "clay", "tags": [1, True, {"x": 1}], "ok": False}),
        Item("cup", "Cup", (), NOW_MS - DAY_MS, {"price": 7.5, "like": "sale", "size": {"ml": 250}, "since": "2020-09-01"},
             available_from=NOW_MS - 5, expires_at=NOW_MS + 5),
    ],
    bare=1,
)  # fmt: skip
USER = {"brands": ["leaf", "clay"], "age": 30, "plan": "gold", "nested": {"x": [1]}}
CONTEXT = {"device": "phone", "count": 2}
EVERY = {"tea", "pot", "cup", "bare0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.price > 3", {"cup"}),
        ("item.price >= 3.0", {"tea", "cup"}),
        ("!(item.price > 3)", EVERY - {"cup"}),
        ("item.price != 3", {"cup"}),
        ('item.price == "30"', {"pot"}),
        ('item.brand == "leaf" || item.price > 5', {"tea", "cup"}),
        ('item.brand in ["leaf", "nobody"] && !item.ok', set()),
        ('item["brand"] in user.brands', {"tea", "pot"}),
        ("item.price in [3, user.age, 7.5]", {"tea", "cup"}),
        ('"sale" in item.tags', {"tea"}),
        ("1 in item.tags", {"pot"}),
        ("item.like in item.tags", set()),
        ("size(item.tags) == 3", {"pot"}),
        ("item.tags.size() == 2", {"tea"}),
        ('item.tags.exists(t, t.startsWith("n") || t == true)', {"tea", "pot"}),
        ("item.categories.exists(c, c == user.plan || c.endsWith('s'))", {"tea"}),
        ("has(item.title)", {"tea", "cup"}),
        ("item.title == null", {"pot", "bare0"}),
        ("null != item.size.ml", {"cup"}),
        ("item.size.ml * 4 - 500 == 500", {"cup"}),
        ("item.price / 0 == item.price / 0", set()),
        ('item.title.contains("tea")', {"tea"}),
        ('"Green tea and cup".contains(item.title)', {"tea"}),
        ("item.ok", {"tea"}),
        ("!item.ok", EVERY - {"tea"}),
        ("item.ok == false", {"pot"}),
        ('(item.ok ? item.brand : "none") == "none"', EVERY - {"tea"}),
        ("item.hidden == false", {"tea", "pot", "cup"}),
        ('item.category == "drinks"', {"tea"}),
        ('item.item_id in ["bare0", "tea"]', {"tea", "bare0"}),
        ('item.item_id > "d"', {"tea", "pot"}),
        ('now - item.timestamp <= duration("24h")', {"cup"}),
        ('now - duration("1d") == item.timestamp', {"cup"}),
        ("item.expires_at > now && item.available_from <= now", {"cup"}),
        ("item.timestamp == 1000", {"tea"}),
        ('timestamp(item.since) < timestamp("2020-09-02T00:00:00Z")', {"cup"}),
        ('item.since < timestamp("2020-09-02T00:00:00Z")', {"cup"}),
        ('context.device == "phone" && context.count + 1 == 3', EVERY),
        ("user.age > 40", set()),
        ("user.nothing == item.nothing", set()),
        ("user.nested.x.exists(one, one == 1)", EVERY),
        ('["a", "b"].exists(one, one == "b")', EVERY),
        ("item.price in []", set()),
        ("true // a comment\n && !false", EVERY),
        ('item.brand == r"leaf" || item.brand == """cl\\x61y"""', {"tea", "pot"}),
        ("1 in [1u] && 0x10 == 16 && -.5 < 1e-1", EVERY),
    ],
)
def test_what_a_filter_lets_pass(text: str, expected: set[str]) -> None:
    assert SHELF.passing(text, USER, CONTEXT) == expected


@pytest.mark.parametrize(
    ("text", "said", "position"),
    [
        ("", "ends too early", 0),
        ("item.price <= ", "ends too early", 14),
        ("item.price = 3", "'=' is not expected", 11),
        ("price > 3", "'price' is not known", 0),
        ("item", "item.something", 0),
        ("item.price", None, 0),
        ("3", "this is a number", 0),
        ("now", "this is a time", 0),
        ("!3", "this is a number", 1),
        ('item.a && "b"', "this is a text", 10),
        ('3 == "3"', "not compared with a text", 0),
        ("true < 3", "not compared with a number", 0),
        ("null < 1", "null is compared", 0),
        ("null in [item.a]", "null is compared", 0),
        ('item.a + "x" == "yx"', "nothing is calculated with a text", 9),
        ("1 in 5", "looks into a list", 5),
        ("item.a[0] == 1", "between brackets", 7),
        ("item.a % 2 == 0", "% is not known", 7),
        ("has(3)", "has() asks for a field", 0),
        ('item.a.matches("a.*")', "matches() with 1 arguments is not known", 7),
        ("item.tags.all(t, t == 1)", "all() with 2 arguments is not known", 10),
        ("item.a.startsWith(item.b)", "the same for every item", 7),
        ("item.tags.exists(t, t == item.a)", "nothing of the item", 25),
        ("item.tags.exists(item, true)", "names its element first", 17),
        ("item.tags.exists(t, user.x.exists(o, o == t))", "'t' is not known", 42),
        ('timestamp("soon") < now', "ISO 8601", 10),
        ('duration("1 week") < now - now', "a duration", 9),
        ('b"x" == b"x"', "not expected", 1),
        ("{'a': 1}", "not expected", 0),
        ('"\\ud800" == "a"', "no escape", 0),
        ("18446744073709551616 == 1", "within 64 bits", 0),
        ("1e999 == 1", "within 64 bits", 0),
        ("x" * (MAX_CHARS + 1), "at most", MAX_CHARS),
        ("(" * 4_000, "ends too early", 4_000),
        ("!" * 4_000 + "true", "nested", None),
        ("item" + ".a" * 3_000 + " == 1", "nested", None),
        ("item.a == 1" + " || item.a == 1" * 200, "too large", None),
        (" || ".join(['item.a.contains("x")'] * 30), "too large", None),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(text: str, said: str | None, position: int | None) -> None:
    if said is None:
        assert compile_filter(text).item_only
        return
    with pytest.raises(FilterError, match=r" \(at character \d+\)$") as refused:
        compile_filter(text)
    assert said in refused.value.message
    assert position is None or refused.value.position == position
    assert 0 <= refused.value.position <= len(text)


def test_long_chains_and_long_lists_are_no_depth() -> None:
    assert compile_filter(" && ".join(["item.a == 1"] * 70)).item_only
    ids = ", ".join(f'"i{n}"' for n in range(700))
    assert SHELF.passing(f'item.item_id in ["tea", {ids}]') == {"tea"}
    assert MAX_DEPTH < MAX_COST


def test_a_mask_can_be_kept_where_it_follows_from_items_alone() -> None:
    texts = [
        "item.price > 3",
        "user.age > 3",
        'context.device == "x"',
        "item.expires_at > now",
        "item.tags.exists(t, t == user.x)",
    ]
    assert [compile_filter(text).item_only for text in texts] == [True, False, False, False, False]


TEXTS = st.sampled_from(["a", "b", "ab", "", "é", "2020-09-01", "2020-09-13T12:26:40Z", "1h"])
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -0.0, 1e300, 2**60, NOW_MS, NOW_MS - DAY_MS]))
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
ATTRIBUTES = st.one_of(
    SCALARS, SCALARS, st.lists(st.one_of(SCALARS, st.just({"x": 1})), max_size=3), st.fixed_dictionaries({"x": SCALARS})
)
NAMES = ["p", "q", "r", "a name"]
RECORDS = st.builds(
    Item,
    st.just("one"),
    st.one_of(st.none(), TEXTS),
    st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    st.one_of(st.none(), st.sampled_from([0, NOW_MS - DAY_MS, NOW_MS])),
    st.one_of(st.none(), st.dictionaries(st.sampled_from([*NAMES, "category"]), ATTRIBUTES, max_size=4)),
    st.booleans(),
    st.one_of(st.none(), st.sampled_from([0, NOW_MS])),
    st.none(),
)
MAPPINGS = st.dictionaries(st.sampled_from(["p", "q"]), ATTRIBUTES, max_size=2)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


LITERALS = st.one_of(
    TEXTS.map(quoted),
    st.sampled_from(["0", "1", "-2", "0.5", "3.0", "true", "false", "null"]),
    st.sampled_from(["now", 'timestamp("2020-09-13T12:26:40Z")', 'duration("24h")', 'duration("-1d12h")']),
)
OWN = ["item_id", "title", "categories", "category", "timestamp", "available_from", "expires_at", "hidden", "p.x"]
FIELDS = st.sampled_from(
    [f"item.{name}" for name in [*NAMES[:3], *OWN]] + ['item["a name"]', "user.p", "user.q", "context.p"]
)


def calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in"]), pair).map(lambda x: f"({x[1][0]} {x[0]} {x[1][1]})"),
        st.tuples(st.sampled_from(["+", "-", "*", "/"]), pair).map(lambda x: f"({x[1][0]} {x[0]} {x[1][1]})"),
        st.tuples(st.sampled_from(["&&", "||"]), pair).map(lambda x: f"({x[1][0]} {x[0]} {x[1][1]})"),
        st.tuples(st.sampled_from(["startsWith", "endsWith", "contains"]), pair).map(lambda x: f"{x[1][0]}.{x[0]}({x[1][1]})"),
        st.tuples(inner, inner, inner).map(lambda x: f"({x[0]} ? {x[1]} : {x[2]})"),
        st.tuples(st.sampled_from(["!", "-", "size", "timestamp", "duration"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(FIELDS).map(lambda x: f"has({x[0]})"),
        st.lists(st.one_of(LITERALS, FIELDS), max_size=3).flatmap(lambda xs: inner.map(lambda x: f"({x} in [{', '.join(xs)}])")),
        st.tuples(FIELDS, st.sampled_from(['t == "a"', "t > 0", "t in user.p", 't.contains("a")', "t", "!t", "t == user.q"])).map(
            lambda x: f"{x[0]}.exists(t, {x[1]})"
        ),
    )  # fmt: skip


EXPRESSIONS = st.recursive(st.one_of(LITERALS, FIELDS), calls, max_leaves=8)


@given(st.lists(RECORDS, min_size=1, max_size=6), EXPRESSIONS, MAPPINGS, MAPPINGS, st.data())
@hypothesis_settings(max_examples=400)
def test_a_filter_is_what_a_slow_reading_of_the_rules_gives(
    items: list[Item], text: str, user: dict[str, Any], context: dict[str, Any], data: st.DataObject
) -> None:
    """Before and after changes of items, and for one that has no record."""
    named = [
        Item(f"i{n}", *(getattr(item, name) for name in Item.__struct_fields__[1:])) for n, item in enumerate(items)
    ]
    shelf = Shelf(named, bare=1)
    try:
        compile_filter(text)
    except FilterError:
        return
    for _ in range(2):
        expected = {
            item.item_id
            for n, item in enumerate(shelf.items)
            if passes(parse(text), shelf.fields(n), NOW_MS, user, context)
        }
        assert shelf.passing(text, user, context) == expected
        n = data.draw(st.integers(0, len(items) - 1))
        shelf.change(n, Item(f"i{n}", *(getattr(items[0], name) for name in Item.__struct_fields__[1:])))


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "item",
                ".",
                "p",
                "(",
                ")",
                "[",
                "]",
                '"',
                "'",
                "\\",
                "&&",
                "||",
                "!",
                "-",
                "+",
                "*",
                "/",
                "<",
                "==",
                "in",
                "?",
                ":",
                ",",
                "1",
                ".5",
                "0x1",
                "1e9",
                "true",
                "null",
                "now",
                "user",
                "exists",
                "t",
                "has",
                "r",
                "//",
                "{",
            ]
        ),
        max_size=25,
    ).map("".join)
)
@hypothesis_settings(max_examples=400)
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        found = compile_filter(text)
    except FilterError as error:
        refused = error
    else:
        found.mask(SimpleNamespace(columns=SHELF.columns), NOW_MS, USER, CONTEXT)
        return
    assert refused.message
    assert 0 <= refused.position <= len(text)


@given(
    st.dictionaries(
        st.sampled_from(["p", "q"]),
        st.one_of(
            st.none(),
            st.integers(),
            st.floats(),
            st.text(),
            st.lists(st.floats() | st.integers() | st.none()),
            st.just(10**400),
            st.just([10**400]),
        ),
        max_size=2,
    )
)
def test_whatever_a_request_says_is_no_error(context: dict[str, Any]) -> None:
    for text in (
        "context.p == item.price",
        "context.p in context.q",
        "item.price in context.p",
        "-context.p < now",
        "size(context.q) > 1",
    ):
        SHELF.passing(text, context, context)
