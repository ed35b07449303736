"""Columns that followed changes are those that are made anew, and what is not known costs nothing."""

import random
from typing import Any

import numpy as np

from consumers.schemas import Item
from streamer.features.item_columns import HELD, ItemColumns, Values, item_bytes, item_of_bytes

ROWS = 12


def columns_of(records: dict[int, bytes]) -> ItemColumns:
    return ItemColumns(records, lambda: [f"i{n}" for n in range(ROWS)], lambda id_: int(id_[1:]), lambda: ROWS)


def in_words(values: Values) -> list[Any]:
    """What each row has, whatever the codes."""
    rows: list[Any] = [[] for _ in range(values.rows)]
    for name in ("number", "time", "flag"):
        part = getattr(values, name)
        for row in range(values.rows) if part is not None else ():
            if not np.isnan(part[row]) and (name != "flag" or part[row] >= 0):
                rows[row].append((name, float(part[row])))
    for row in range(values.rows) if values.text is not None else ():
        assert values.text
        code = int(values.text.code[row])
        rows[row] += [values.text.values[code]] if code >= 0 else []
        assert code < 0 or values.text.find(values.text.values[code]) == code
    for row in range(values.rows) if values.lists is not None else ():
        lists = values.lists
        assert lists
        elements = in_words(lists.elements)
        start, size = int(lists.start[row]), int(lists.size[row])
        own = [elements[code] for code in lists.code[start : start + max(size, 0)]]
        assert sorted(map(repr, own)) == sorted(repr(elements[code]) for code in lists.code[lists.owner == row])
        rows[row] += [own] if size >= 0 else []
    present = values.present if values.present is not None else np.zeros(values.rows)
    return [(row, bool(there)) for row, there in zip(rows, present, strict=True)]


def test_columns_follow_any_number_of_changes() -> None:
    draw, records = random.Random(0), dict[int, bytes]()
    columns = columns_of(records)
    paths = [("a",), ("b",), ("b", "x"), ("category",), ("title",), ("expires_at",), ("hidden",)]
    for n in range(3_000):
        node = draw.randrange(ROWS)
        if draw.random() < 0.1:
            records.pop(node, None)
        else:
            value = draw.choice([n, f"text {n}", [f"element {n}", 1, {}], {"x": n}, True, [], 0.5])
            title, categories = draw.choice([None, f"t{n}"]), draw.choice([(), (f"c{n}",)])
            attributes = {draw.choice("ab"): value}
            item = Item(f"i{node}", title, categories, None, attributes, n % 3 == 0, expires_at=draw.choice([None, n]))
            records[node] = item_bytes(item)
            assert item_of_bytes(records[node]) == item
        columns.note(node)
        if n % 100 == 0:
            for path in paths:
                assert in_words(columns.values(path)) == in_words(columns_of(records).values(path)), path


def test_only_names_that_records_have_are_looked_for_and_so_many_columns_are_held() -> None:
    records = {n: item_bytes(Item(f"i{n}", attributes={f"a{m}": m for m in range(2 * HELD)})) for n in range(ROWS)}
    columns = columns_of(records)
    for m in range(2 * HELD):
        assert columns.values((f"a{m}",)).number is not None
        assert columns.values((f"b{m}",)) == Values(ROWS)
    assert len(columns._columns) == HELD
    assert in_words(columns.values(("item_id",))) == [([f"i{n}"], True) for n in range(ROWS)]
