"""A model written page by page and read back is the same model, byte for byte."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tgn.config import ModelConfig
from tgn.model import Model
from tgn.outside_vectors import SIZE
from tgn.serialization import all_pages, changed_pages, load_pages


def take(model: Model, seed: int, n: int = 500) -> bytes:
    """Takes random interactions; gives the lists as bytes."""
    rng = np.random.default_rng(seed)
    users = model.users.encode([f"u{x}" for x in rng.integers(0, 300, n)])
    items = model.items.encode([f"i{x}" for x in rng.integers(0, 2_500, n)])
    t = np.arange(n, dtype=np.int64) * 1_000 + seed * 10**6
    ones = np.ones(n, np.uint8)
    out = model.take(np.array(users, np.int32), np.array(items, np.int32), t, ones.astype(np.float32), k=10,
                     score=ones, learn=ones, publish=ones)  # fmt: skip
    return out.test.item.tobytes() + out.published.score.tobytes()


def test_a_restored_model_goes_on_as_the_original_would() -> None:
    store: dict[bytes, bytes] = {}
    original = Model(ModelConfig())
    for seed in range(6):
        take(original, seed)
        store.update(changed_pages(original))
    restored = Model(ModelConfig())
    load_pages(restored, sorted(store.items()))
    assert take(restored, 99) == take(original, 99)
    assert all_pages(restored) == all_pages(original)


def test_only_what_changed_is_written() -> None:
    model = Model(ModelConfig())
    take(model, 0, 2_000)
    changed_pages(model)
    assert set(changed_pages(model)) == {b"model"}
    take(model, 1, 1)
    groups = [key.partition(b"/")[0] for key in changed_pages(model)]
    assert groups.count(b"users") == 1
    assert groups.count(b"items") <= 21


FOLLOWS = {"names.text", "names.start"} | {
    f"active.{name}" for name in ("vector", "standing", "score", "bins", "slot_of")
}
"""What `refresh` and the ids make anew after a checkpoint was loaded."""


def _arrays(value: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a tuple of tuples, with its path."""
    if isinstance(value, np.ndarray):
        yield path.lstrip("."), value
    else:
        for name, part in zip(value._fields, value, strict=True):
            yield from _arrays(part, f"{path}.{name}")


def test_every_array_of_the_state_is_in_a_page() -> None:
    model = Model(ModelConfig())
    take(model, 0)
    vector = np.full((1, SIZE), SIZE**-0.5, np.float32)
    model.set_outside_vectors("version", [0], vector, [0], vector)
    pages, found = all_pages(model), set()
    for path, array in _arrays(model.arrays()):
        if path.endswith((".dirty", ".known", ".moved")) or path in FOLLOWS:
            found.add(path)
            continue
        bytes_ = array.reshape(-1).view(np.uint8)
        bytes_[0] ^= 1
        assert all_pages(model) != pages, path
        bytes_[0] ^= 1
    assert all_pages(model) == pages
    assert found >= FOLLOWS
