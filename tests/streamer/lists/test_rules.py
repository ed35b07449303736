"""Rules are checked before they are used, and applied in pure steps."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consumers.schemas import Item
from streamer.features.item_columns import ItemColumns, item_bytes
from streamer.lists.building.filling import Ranking, boosted, filled
from streamer.lists.filters.masks import Asked, FilterMasks
from streamer.lists.rule_book import ItemFacts, RuleBook, choose
from streamer.lists.rules import Rules

ITEMS = [
    Item(f"i{n}", categories=(f"c{n % 3}", "all"), attributes={"price": n, "brand": f"b{n % 2}", "new": n > 6})
    for n in range(10)
]
IDS = [item.item_id for item in ITEMS]
NODES = {id_: n for n, id_ in enumerate(IDS)}
CATALOGUE = SimpleNamespace(
    columns=ItemColumns({n: item_bytes(item) for n, item in enumerate(ITEMS)}, lambda: IDS, NODES.get, lambda: 16)
)
RANKING = Ranking(np.arange(10, dtype=np.int32), np.linspace(2, -2, 10, dtype=np.float32))


def listed(rules: dict[str, Any], k: int = 5, pinnable: dict[str, int] = NODES, **user: Any) -> list[str]:
    book = RuleBook(Rules.model_validate(rules))
    asked = Asked(1_000, user, {"device": "phone"})
    allowed = book.allowed(FilterMasks(CATALOGUE), asked)
    ranking = RANKING if allowed is None else Ranking(*(part[allowed[RANKING.item] > 0] for part in RANKING))
    wishes = book.wishes(FilterMasks(CATALOGUE), CATALOGUE, pinnable.get, asked)
    found = choose(ranking, k, wishes, ItemFacts(IDS, lambda items: np.eye(len(items)), lambda items: items), 0, "id")
    assert len(found.item) == len(found.score) == len(found.place) == len(found.propensity)
    return [IDS[item] for item in found.item.tolist()]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, "i0 i1 i2 i3 i4"),
        ({"filter": "item.price > 6"}, "i7 i8 i9"),
        ({"boosts": [{"if": "item.price == 9", "factor": 100}]}, "i9 i0 i1 i2 i3"),
        ({"boosts": [{"if": "item.price < 2", "factor": 0.001}]}, "i2 i3 i4 i5 i6"),
        ({"boosts": [{"if": "item.new", "factor": 10}, {"if": "item.price == 8", "factor": 10}]}, "i8 i0 i1 i7 i2"),
        ({"pins": [{"item_id": "i8", "place": 2}]}, "i0 i8 i1 i2 i3"),
        ({"pins": [{"item_id": "i1", "place": 1}, {"item_id": "i9", "place": 1}]}, "i1 i9 i0 i2 i3"),
        ({"pins": [{"item_id": "i8", "place": 6}, {"item_id": "nobody", "place": 1}]}, "i0 i1 i2 i3 i4"),
        ({"pins": [{"item_id": "i8", "place": 1, "if": "user.plan == 'gold'"}]}, "i8 i0 i1 i2 i3"),
        ({"pins": [{"item_id": "i8", "place": 1, "if": "context.device == 'tv'"}]}, "i0 i1 i2 i3 i4"),
        ({"pins": [{"item_id": "i8", "place": 5}], "filter": "item.price < 2"}, "i0 i1 i8"),
        ({"quotas": [{"per": "item.brand", "max": 1}]}, "i0 i1"),
        ({"quotas": [{"per": "item.category", "max": 1}]}, "i0 i1 i2"),
        ({"quotas": [{"per": "item.categories", "max": 2}]}, "i0 i1"),
        ({"quotas": [{"per": "item.nothing", "max": 1}]}, "i0 i1 i2 i3 i4"),
        ({"quotas": [{"per": "item.category", "max": 1}], "pins": [{"item_id": "i9", "place": 3}]}, "i1 i2 i9"),
    ],
)
def test_what_rules_do_to_a_list(rules: dict[str, Any], expected: str) -> None:
    assert listed(rules, plan="gold") == expected.split()


def test_what_may_not_be_listed_is_not_pinned() -> None:
    assert listed({"pins": [{"item_id": "i8", "place": 1}]}, pinnable={}) == IDS[:5]


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"filter": "item.price >"}, "filter"),
        ({"filter": "price > 1"}, "filter"),
        ({"filter": 3}, "filter"),
        ({"boosts": [{"if": "item.x", "factor": 0}]}, "boosts.0.factor"),
        ({"boosts": [{"if": "item.x", "factor": float("nan")}]}, "boosts.0.factor"),
        ({"boosts": [{"factor": 2}]}, "boosts.0.if"),
        ({"boosts": [{"if": "3", "factor": 2}]}, "boosts.0.if"),
        ({"boosts": [{"if": "true", "factor": 2}] * 51}, "boosts"),
        ({"pins": [{"item_id": "", "place": 1}]}, "pins.0.item_id"),
        ({"pins": [{"item_id": "a", "place": 0}]}, "pins.0.place"),
        ({"quotas": [{"per": "user.x", "max": 1}]}, "quotas.0.per"),
        ({"quotas": [{"per": "item.x", "max": 0}]}, "quotas.0.max"),
        ({"seen": "after a week"}, "seen"),
        ({"k": 0}, "k"),
        ({"surface": "A b"}, "surface"),
        ({"fallback": ["anything"]}, "fallback.0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_are_no_rules_is_refused_by_field(rules: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Rules.model_validate(rules)
    assert ".".join(map(str, refused.value.errors()[0]["loc"])) == field


def test_rules_are_the_json_that_they_came_from() -> None:
    text = '{"surface": "home", "boosts": [{"if": "item.x > 1", "factor": 2.0}], "seen": "after 30d"}'
    rules = Rules.model_validate_json(text)
    again = Rules.model_validate_json(rules.model_dump_json(by_alias=True, exclude_defaults=True))
    assert again == rules
    assert rules.seen_for_ms() == 30 * 86_400_000
    assert [Rules(seen=seen).seen_for_ms() for seen in ("allow", "exclude", "after 2h")] == [0, np.inf, 7_200_000]


@given(
    st.lists(st.integers(0, 9), unique=True),
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12)), max_size=4),
    st.integers(1, 4),
)
def test_a_list_has_no_item_twice_its_pins_at_their_places_and_no_more_than_its_quotas(
    items: list[int], k: int, pins: list[tuple[int, int]], most: int
) -> None:
    ranking = Ranking(np.array(items, np.int32), np.linspace(1, 0, len(items), dtype=np.float32))
    brands = CATALOGUE.columns.values(("brand",))
    found = filled(ranking, k, pins, [(brands, most)]).item.tolist()
    pinned = {item for item, _ in pins}
    assert len(found) == len(set(found)) <= k
    first = [(item, place) for n, (item, place) in enumerate(pins) if item not in [before for before, _ in pins[:n]]]
    if len(found) == k and len({place for _, place in first}) == len(first):
        assert all(found[place - 1] == item for item, place in first if place <= k)
    others = [item for item in found if item not in pinned]
    assert others == sorted(others, key=items.index)
    for brand in (0, 1):
        of_brand = [item for item in found if item % 2 == brand]
        assert len(of_brand) <= max(most, sum(item in pinned for item in of_brand))
    assert filled(ranking, k, [], []).item.tolist() == items[:k]


def test_boosts_that_say_nothing_change_nothing() -> None:
    nobody = np.zeros(16, np.uint8)
    same = boosted(RANKING, [(nobody, 5.0)], IDS)
    assert same.item.tolist() == RANKING.item.tolist()
    tied = boosted(Ranking(np.array([1, 0], np.int32), np.array([1, 1 - np.log(2)], np.float32)),
                   [(np.array([1, 0] + [0] * 14, np.uint8), 2.0)], IDS)  # fmt: skip
    assert tied.item.tolist() == [0, 1]
