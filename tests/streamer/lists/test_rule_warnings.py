"""What of rules can have no effect: each place of a rule that can name something unknown, and none where it is known."""

from typing import Any

import pytest

from consumers.schemas import Item
from streamer.features.item_columns import ItemColumns, item_bytes
from streamer.lists.rule_records import read_rules
from streamer.lists.rule_warnings import warnings_of

ITEMS = [
    Item("a", title="A", categories=("tea",), attributes={"price": 3, "maker": {"city": "Oslo"}}),
    Item("b", expires_at=5, attributes={"tags": ["x"], "sold": False, "none": None}),
]
COLUMNS = ItemColumns(
    {n: item_bytes(one) for n, one in enumerate(ITEMS)}, lambda: ["a", "b"], {"a": 0, "b": 1}.get, lambda: len(ITEMS)
)


def fields(rules: dict[str, Any]) -> list[str]:
    return [one.field for one in warnings_of(read_rules(rules), COLUMNS, lambda item_id: item_id in ("a", "b"), "main")]


KNOWN = ("price", "maker.city", "tags", "sold", "title", "categories", "category", "expires_at", "item_id")
UNKNOWN = ("prise", "maker.town", "price.much", "none", "available_from")


@pytest.mark.parametrize("name", KNOWN + UNKNOWN)
def test_a_field_that_no_item_has_is_named_wherever_it_stands(name: str) -> None:
    wrong = name in UNKNOWN
    text = f"has(item.{name})"
    assert fields({"filter": text}) == ["filter"] * wrong
    assert fields({"filter": f"item.price < 3 || ({text} && user.plan == 'x')"}) == ["filter"] * wrong
    assert fields({"boosts": [{"if": "true", "factor": 2}, {"if": text, "factor": 2}]}) == ["boosts.1.if"] * wrong
    assert fields({"pins": [{"item_id": "a", "place": 1, "if": text}]}) == ["pins.0.if"] * wrong
    assert fields({"quotas": [{"per": f"item.{name}", "max": 1}]}) == ["quotas.0.per"] * wrong


def test_items_and_contexts_that_nobody_knows_are_named() -> None:
    assert fields({"pins": [{"item_id": one, "place": 1} for one in ("a", "c", "b")]}) == ["pins.1.item_id"]
    assert fields({"filter": "context.device == 'tv' || context.region == 'x'"}) == []
    for published in ({"surface": "main"}, {"surface": "other", "publish": True}):  # none of their lists has a context
        assert fields({"filter": "item.price < 3 || context.device == 'tv'", **published}) == ["filter"]
    assert fields({"filter": "context.device == 'tv'", "surface": "main", "publish": False}) == []
    assert fields({"boosts": [{"if": "context.device == 'tv'", "factor": 2}], "surface": "main"}) == []
    assert fields({"filter": "context.devise == 'tv'"}) == ["filter"]
    assert fields({"fallback": ["new"], "k": 3, "seen": "after 2d", "publish": False}) == []
