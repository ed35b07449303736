"""Similar items among very many, by an index."""

import subprocess
import sys

import numpy as np
import pytest

from consumers.schemas import Item
from streamer.asking import near_items
from streamer.asking.near_items import NearItems, among
from tests.streamer.asking.asked_world import AskedWorld, ids
from tgn.outside_vectors import SIZE, Vectors, describe, new_vectors

pytest.importorskip("faiss")
ITEMS, KINDS = 990, 30


def catalogue(items: int) -> AskedWorld:
    """Items of some kinds, each with a word of its own and one that a few share."""
    world = AskedWorld()
    world.say(
        *(
            Item(
                f"i{n}",
                title=f"Thing {n}",
                categories=(f"k{n % KINDS}", f"s{n % 7}"),
                attributes={"word": f"w{n % 300}"},
            )
            for n in range(items)
        )
    )
    return world


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_items, "LARGE", 500)
    monkeypatch.setattr(near_items, "NEAREST", 200)
    monkeypatch.setattr(near_items, "PROBED", 1.0)  # what is missed by looking into fewer is in SIMILAR.md


def built(world: AskedWorld) -> None:
    world.ask("similar", item_id="i1")
    for near in world.answers._neighbours._near.values():
        near.wait()


def test_what_the_index_finds_is_as_near_as_what_is_nearest(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last cosine is the exact one's, and no score is another than the exact one."""
    world = catalogue(ITEMS)
    built(world)
    asked = [f"i{n}" for n in range(0, ITEMS, 25)]
    by_index = {item: world.ask("similar", item_id=item, k=10) for item in asked}
    monkeypatch.setattr(near_items, "LARGE", 10 * ITEMS)
    exact = {item: world.ask("similar", item_id=item, k=ITEMS) for item in asked}
    for item in asked:
        scores = {one["item_id"]: one["score"] for one in exact[item]["items"]}
        found = by_index[item]["items"]
        assert len(found) == 10
        assert all(one["score"] == scores[one["item_id"]] for one in found)
        assert found[-1]["score"] == sorted(scores.values(), reverse=True)[9]


def test_what_comes_after_the_index_is_found_and_what_is_hidden_is_not(large: None) -> None:
    world = catalogue(ITEMS)
    built(world)
    twin = Item("twin", title="Thing 1", categories=("k1", "s1"), attributes={"word": "w1"})
    world.say(twin)
    assert "twin" in ids(world.ask("similar", item_id="i1", k=10))
    [nearest] = ids(world.ask("similar", item_id="i1", k=1))
    world.say(Item(nearest, hidden=True))
    assert nearest not in ids(world.ask("similar", item_id="i1", k=50))


def test_a_filter_that_few_pass_is_answered_without_it(large: None) -> None:
    world = catalogue(ITEMS)
    built(world)
    body = world.ask("similar", item_id="i1", k=50, filter='"s1" in item.categories && "k1" in item.categories')
    assert len(body["items"]) == len([n for n in range(ITEMS) if n % 7 == 1 and n % KINDS == 1]) - 1


def test_another_version_of_the_vectors_has_an_index_of_its_own() -> None:
    rng = np.random.default_rng(0)
    near = NearItems()

    def of(seed: int) -> Vectors:
        vectors, rows = new_vectors(900), np.random.default_rng(seed).normal(size=(900, SIZE)).astype(np.float32)
        describe(vectors, list(range(900)), rows / np.linalg.norm(rows, axis=1, keepdims=True))
        return vectors

    first, second, item = of(1), of(2), int(rng.integers(900))
    assert near.near(first, item, 900, "1") is None
    near.wait()
    assert near.near(first, item, 900, "1") is not None
    assert near.near(second, item, 900, "2") is None
    near.wait()
    found = near.near(second, item, 900, "2")
    assert found is not None
    assert item in found


def test_without_the_package_everything_is_compared(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_items, "find_spec", lambda name: None)
    world = catalogue(ITEMS)
    assert len(world.ask("similar", item_id="i1", k=20)["items"]) == 20
    assert all(near._building is None for near in world.answers._neighbours._near.values())


def test_a_small_catalogue_does_not_import_it() -> None:
    """Nor does anything that only answers."""
    code = "import sys, streamer.asking.answers, streamer.worker.worker; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_among_sorted_nodes() -> None:
    nodes = np.array([1, 4, 6, 9], np.int32)
    assert among(nodes, np.array([9, 0, 4, 4, 12, 5], np.int32)).tolist() == [4, 9]
