"""Writes the golden block of the present version of `freshet.observed`: python -m tests.golden.blocks

Once a version is out, its file stays as it is: every later version reads it, or refuses it in one clear line.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from streamer.pipeline.observed_block import (
    DIGEST_BYTES,
    VERSION,
    Merged,
    ObservedBlock,
    Retracted,
    encode_block,
    numbers_of,
)
from tgn.graph import SLOTS

HERE = Path(__file__).parent


def example(n: int = 7) -> ObservedBlock:
    """A block in which nothing is as it mostly is."""
    row = np.arange(n)
    has_id = row % 3 != 1
    digests = [hashlib.blake2b(bytes([k]), digest_size=DIGEST_BYTES).digest() for k in range(int(has_id.sum()))]
    held = np.frombuffer(b"".join(digests), f"V{DIGEST_BYTES}")
    event = (row + 1).astype(np.uint64) << np.uint64(40)
    event[has_id] = numbers_of(held)
    return ObservedBlock(
        start=1_000,
        end=2_000,
        clock_ms=1_700_000_000_999,
        users=["ann", "bob", "ünï"],
        items=["tea", "pot"],
        user=(row % 3).astype(np.int32),
        item=(row % 2).astype(np.int32),
        t=1_700_000_000_000 - row * 70_000,
        order_ms=1_700_000_000_000 - row * 60_000,
        weight=(row - 2.5).astype(np.float32),
        context=(np.arange(n * SLOTS).reshape(n, SLOTS) % 9 - 1).astype(np.int16),
        offset=1_001 + row * row,
        record_ms=1_700_000_100_000 + row * 1_000_000,
        event=event,
        has_id=has_id,
        digests=held,
        retractions=[Retracted("ann", "e-1"), Retracted("bob", "@3-17")],
        merges=[Merged("ann", "visitor", {"0": 12, "3": 40})],
    )


def as_json(block: ObservedBlock) -> dict[str, Any]:
    """What a block must give back; digests in hexadecimal."""
    values = {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in block._asdict().items()
    }
    values["digests"] = [digest.hex() for digest in values["digests"]]
    return values


def main() -> None:
    (HERE / f"observed-{VERSION}.block").write_bytes(encode_block(example()))
    (HERE / f"observed-{VERSION}.json").write_text(json.dumps(as_json(example()), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
