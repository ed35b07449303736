"""Writes the golden step of the present version of `freshet.model`: python -m tests.golden.steps

Once a version is out, its file stays as it is: every later version reads it, or refuses it in one clear line.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from streamer.pipeline.learned_record import VERSION, LearnedRecord, encode_learned
from tgn.sharing.added_rows import LearnedRows
from tgn.sharing.learned_steps import LearnedStep, RankerStep

HERE = Path(__file__).parent


def example(n: int = 5, m: int = 2, d: int = 4, p: int = 6) -> LearnedRecord:
    """A step of n items and m contexts whose numbers 16 bits hold as they are."""

    def numbers(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return (((np.arange(size) - size // 3) % 255 - 127) / 64).reshape(shape).astype(np.float32)

    def places(items: int, every: int) -> np.ndarray:
        return np.arange(every - 1, items, every, dtype=np.int32)

    return LearnedRecord(
        seat="f-3",
        epoch=70,
        part=0,
        is_first=False,
        events=52,
        total=4_052,
        seen={"f-1": 3_900, "f-2": 4_100},
        items=[f"tea {k}" for k in range(n - 1)] + ["ünï"],
        step=LearnedStep(
            history=LearnedRows(places(n, 2), numbers(n // 2, d), np.abs(numbers(n // 2))),
            candidate=LearnedRows(places(n, 1), -numbers(n, d), np.full(n, 0.1, np.float32)),
            context=LearnedRows(np.array([1_023, 7][:m], np.int32), numbers(m, d), np.full(m, 0.3, np.float32)),
            popularity=numbers(5),
            popularity_adagrad=np.full(5, 0.7, np.float32),
            ranker=RankerStep(numbers(p), -numbers(p), numbers(p) ** 2, 0.75, 51),
        ),
    )


def as_json(record: LearnedRecord) -> dict[str, Any]:
    """The fields of a record, as JSON has them."""
    step: dict[str, Any] = {}
    for name, value in record.step._asdict().items():
        if isinstance(value, LearnedRows):
            step[name] = {name: array.tolist() for name, array in value._asdict().items()}
        elif isinstance(value, np.ndarray):
            step[name] = value.tolist()
    ranker = record.step.ranker
    if ranker is not None:
        step["ranker"] = [value.tolist() for value in ranker[:3]] + list(ranker[3:])
    return record._asdict() | {"items": list(record.items), "step": step}


def main() -> None:
    (HERE / f"learned-{VERSION}.step").write_bytes(encode_learned(example()))
    (HERE / f"learned-{VERSION}.json").write_text(json.dumps(as_json(example()), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
