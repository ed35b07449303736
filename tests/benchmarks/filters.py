"""Random filters against a slow reading of the same rules, and what a mask over a large catalogue costs.

python -m tests.benchmarks.filters --expressions 100000
"""

import argparse
import random
import time
from types import SimpleNamespace
from typing import Any

from consumers.schemas import Item
from streamer.features.item_columns import ItemColumns, item_bytes
from streamer.lists.filters.compiled import compile_filter
from streamer.lists.filters.syntax import FilterError, parse
from tests.streamer.lists.filters.oracle import fields_of, passes

NOW_MS = 1_600_000_000_000
SCALARS: list[Any] = ["a", "b", "ab", "", "é", "2020-09-01", "1h", 0, 1, -2, 0.5, 1e300, 2**60, NOW_MS, True, False]
FIELDS = [
    *(f"item.{name}" for name in ("p", "q", "r", "p.x", "title", "categories", "category", "timestamp", "item_id")),
    'item["a name"]', "user.p", "user.q", "context.p",
]  # fmt: skip
LITERALS = [
    '"a"', '"b"', '"ab"', '"2020-09-01"', "0", "1", "-2", "0.5", "true", "false", "null", "now",
    'timestamp("2020-09-13T12:26:40Z")', 'duration("24h")', "[1, 2]", '["a", 1, true]', "[item.p, user.q]", "[]",
]  # fmt: skip
SHAPES = [
    *(f"({{}} {sign} {{}})" for sign in ("==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "&&", "||")),
    *(f"{{}}.{name}({{}})" for name in ("startsWith", "endsWith", "contains")),
    *(f"{name}({{}})" for name in ("!", "-", "size", "timestamp", "duration", "has")),
    '{}.exists(t, t == "a")', "{}.exists(t, t > 0 || t in user.p)", "({} ? {} : {})", "({} && {} || !{})",
]  # fmt: skip
JUNK = [*"()[]{}\"'\\&|!<>=+-*/%?:,.`@#~\n\0é\ud800", "item", "in", "0x", "1e", '"""', "//", "null", ".x"]


def expression(draw: random.Random, depth: int) -> str:
    """A filter, whether it makes sense or not."""
    if depth == 0 or draw.random() < 0.25:
        return draw.choice(draw.choice([FIELDS, LITERALS]))
    shape = draw.choice(SHAPES)
    return shape.format(*(expression(draw, depth - 1) for _ in range(shape.count("{}"))))


def spoilt(draw: random.Random, text: str) -> str:
    """A text with a part taken out, or something else put in."""
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(["", draw.choice(JUNK)]) + text[at + draw.randrange(3) :]


def value(draw: random.Random) -> Any:
    """Of an attribute."""
    kind = draw.random()
    if kind < 0.7:
        return draw.choice(SCALARS)
    return (
        {"x": draw.choice(SCALARS)} if kind < 0.8 else [draw.choice([*SCALARS, {}]) for _ in range(draw.randrange(4))]
    )


def record(draw: random.Random, n: int) -> Item:
    """An item with a few attributes."""
    attributes = {name: value(draw) for name in ("p", "q", "r", "a name", "category") if draw.random() < 0.6}
    title, categories = draw.choice([None, "a", "ab"]), tuple(draw.sample(["a", "b"], draw.randrange(3)))
    return Item(f"i{n}", title, categories, draw.choice([None, 0, NOW_MS]), attributes or None)


def shelf(items: list[Item]) -> Any:
    """A catalogue of items."""
    ids = [item.item_id for item in items]
    index = {id_: n for n, id_ in enumerate(ids)}
    records = {n: item_bytes(item) for n, item in enumerate(items)}
    return SimpleNamespace(columns=ItemColumns(records, lambda: ids, index.get, lambda: len(ids)))


def fuzz(expressions: int, seed: int) -> dict[str, float]:
    """Every text is a filter that lets pass what it should, or is refused; any other error ends the run."""
    draw = random.Random(seed)
    counts: dict[str, float] = {"filters": 0, "refused": 0, "slowest_ms": 0.0}
    for n in range(expressions):
        if n % 500 == 0:
            items = [record(draw, i) for i in range(8)]
            catalogue, user, context = shelf(items), {"p": value(draw), "q": value(draw)}, {"p": value(draw)}
        text = expression(draw, draw.randrange(1, 6))
        text = spoilt(draw, text) if n % 3 == 0 else text
        started = time.process_time()
        try:
            found = compile_filter(text)
        except FilterError as refused:
            counts["refused"] += 1
            if not 0 <= refused.position <= len(text):
                raise AssertionError(text) from refused
            continue
        mask = found.mask(catalogue, NOW_MS, user, context).tolist()
        counts["slowest_ms"] = max(counts["slowest_ms"], (time.process_time() - started) * 1e3)
        counts["filters"] += 1
        tree = parse(text)
        assert mask == [passes(tree, fields_of(item), NOW_MS, user, context) for item in items], text
    return counts


def agreeing(draw: random.Random, depth: int) -> str:
    """A condition that means the same in CEL, where an item has all that it asks for."""
    numbers = ["item.price", "item.stock", "3", "0", "user.age", "size(item.tags)", "item.price * 2 - item.stock"]
    texts, lists = ["item.brand", "item.maker", '"a"', '"é\\n"', "user.plan"], ["item.tags", "user.likes", '["a", "é"]']
    match draw.randrange(7 if depth else 2):
        case 0 | 1 as kind:
            of = (numbers, texts)[kind]
            return f"({draw.choice(of)} {draw.choice(['==', '!=', '<', '<=', '>', '>='])} {draw.choice(of)})"
        case 2:
            return f"({agreeing(draw, depth - 1)} {draw.choice(['&&', '||'])} !{agreeing(draw, depth - 1)})"
        case 3:
            return f"({draw.choice(texts)} in {draw.choice(lists)})"
        case 4:
            return f'{draw.choice(texts[:2])}.{draw.choice(["startsWith", "endsWith", "contains"])}("{draw.choice("abc")}")'
        case 5:
            return f"item.tags.exists(t, t < {draw.choice(texts[2:])})"
    return f"({agreeing(draw, depth - 1)} ? item.ok : {agreeing(draw, depth - 1)})"


def beside_cel(expressions: int, seed: int) -> dict[str, float]:
    """The same items pass as by cel-python, which has to be there: pip install cel-python."""
    import celpy

    draw, words, environment = random.Random(seed), ["a", "ab", "b", "é", "", "abc"], celpy.Environment()
    evaluations, took_s = 0, 0.0
    for _ in range(expressions):
        known = [
            {
                "price": draw.randrange(-3, 9), "stock": draw.randrange(9), "brand": draw.choice(words), "maker": draw.choice(words),
                "ok": draw.random() < 0.5, "tags": draw.choices(words, k=draw.randrange(4)),
            }
            for _ in range(6)
        ]  # fmt: skip
        user = {"age": draw.randrange(9), "plan": draw.choice(words), "likes": draw.sample(words, 2)}
        text = agreeing(draw, 3)
        catalogue = shelf([Item(f"i{n}", attributes=attributes) for n, attributes in enumerate(known)])
        mask = compile_filter(text).mask(catalogue, 0, user, {}).tolist()
        program = environment.program(environment.compile(text))
        for attributes, passed in zip(known, mask, strict=True):
            started = time.process_time()
            expected = program.evaluate({"item": celpy.json_to_cel(attributes), "user": celpy.json_to_cel(user)})
            took_s += time.process_time() - started
            evaluations += 1
            assert bool(expected) == bool(passed), (text, attributes, user)
    return {"evaluations": evaluations, "cel_python_us": took_s / evaluations * 1e6}


def speed(items: int) -> None:
    """Prints what a mask costs, the first time and then."""
    catalogue = shelf([
        Item(f"i{n}", f"title number {n}", (f"c{n % 7}",), attributes={
            "price": n % 1000, "brand": f"b{n % 50}", "tags": [f"t{n % 9}", f"u{n % 5}"],
        })
        for n in range(items)
    ])  # fmt: skip
    for text in (
        "item.price < 10", 'item.brand == "b3"', '"t3" in item.tags', 'item.price < 10 && item.brand != "b3" || "t1" in item.tags',
        'item.tags.exists(t, t.startsWith("t"))', 'item.title.contains("77")', "item.price < user.limit",
    ):  # fmt: skip
        found, took = compile_filter(text), list[float]()
        for _ in range(6):
            started = time.process_time()
            found.mask(catalogue, 0, {"limit": 10}, {})
            took.append((time.process_time() - started) * 1e3)
        print(f"{text:66} first {took[0]:8.2f} ms, then {min(took[1:]):7.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expressions", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cel", action="store_true", help="beside cel-python instead")
    arguments = parser.parse_args()
    if arguments.cel:
        print(beside_cel(arguments.expressions, arguments.seed))
        raise SystemExit
    print(fuzz(arguments.expressions, arguments.seed))
    speed(arguments.items)
