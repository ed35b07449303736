"""Positions come back as they were written, in the bytes that logs and checkpoints of before have."""

import ast
from pathlib import Path

import msgspec

from consumers.positions import by_topic, from_rows, from_topics, pack, to_rows, unpack
from consumers.records import TopicPartition

ROOT = Path(__file__).parents[2]
POSITIONS = {TopicPartition("b", 10): 1 << 40, TopicPartition("b", 9): 0, TopicPartition("ä", 0): 7}


def test_what_was_written_comes_back() -> None:
    assert from_rows(to_rows(POSITIONS)) == unpack(pack(POSITIONS)) == from_topics(by_topic(POSITIONS)) == POSITIONS
    assert unpack(None) == unpack(b"") == unpack(pack({})) == from_topics({}) == {}


def test_the_bytes_are_those_of_before() -> None:
    assert pack(POSITIONS) == msgspec.msgpack.encode([(*tp, position) for tp, position in POSITIONS.items()])
    assert msgspec.json.encode(by_topic(POSITIONS)) == '{"b":{"9":0,"10":1099511627776},"ä":{"0":7}}'.encode()


def test_nobody_writes_or_reads_them_otherwise() -> None:
    """Rows made of positions, or positions of rows, stand in `consumers.positions` alone."""
    found = set()
    for path in (file for package in ("consumers", "streamer") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ListComp):
                written = isinstance(node.elt, ast.Tuple) and isinstance(node.elt.elts[0], ast.Starred)
            else:
                target = node.generators[0].target if isinstance(node, ast.DictComp) else None
                written = (
                    isinstance(target, ast.Tuple) and len(target.elts) == 3 and "TopicPartition" in ast.unparse(node)
                )
            if written:
                found.add(str(path.relative_to(ROOT)))
    assert found == {"consumers/positions.py"}
