"""What an item is: from its record to a vector, and what a list makes of it."""

import math
from typing import Any

import numpy as np
import pytest

from consumers.event_weights import EventWeights
from consumers.schemas import Item
from streamer.engine.engine import Engine
from streamer.features.item_content import hash_content, read_coordinates
from streamer.settings import Settings
from tests.lazily import lazily
from tests.worlds import table_of
from tgn.model import Model
from tgn.outside_vectors import SCALE, SIZE
from tgn.serialization import all_pages, load_pages

gather_source = lazily("streamer.embeddings.training_data:gather_source")


def cosine(a: Item, b: Item) -> float:
    return float(hash_content(a) @ hash_content(b))


def placed(lat: float, lon: float) -> Item:
    return Item("x", attributes={"lat": lat, "lon": lon})


def test_items_are_alike_by_what_they_share() -> None:
    films = [Item(str(n), title, categories) for n, (title, categories) in enumerate([
        ("Far Cry (2008)", ("Action", "Adventure")), ("Long Cry (2008)", ("Action", "Adventure", "Crime")),
        ("A quiet room (1961)", ("Drama",)),
    ])]  # fmt: skip
    assert cosine(films[0], films[0]) == pytest.approx(1)
    assert cosine(films[0], films[1]) > 0.5 > 0.3 > abs(cosine(films[0], films[2]))
    assert not hash_content(Item("nothing")).any()
    assert hash_content(Item("a", attributes={"brand": "x", "score": 1.5})) == pytest.approx(
        hash_content(Item("b", attributes={"brand": "x"}))
    )


def test_places_are_alike_by_how_near_they_are() -> None:
    here, km = placed(40.75, -73.98), 1 / 111.2
    by_distance = [cosine(here, placed(40.75 + d * km, -73.98)) for d in (0, 0.2, 1, 5, 20, 500)]
    assert by_distance == sorted(by_distance, reverse=True)
    assert by_distance[1] > 0.9
    assert by_distance[-1] < 0.3
    east = cosine(here, placed(40.75, -73.98 + km / math.cos(math.radians(40.75))))
    assert east == pytest.approx(by_distance[2], abs=0.15)
    assert cosine(placed(0, 180), placed(0, -180)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("attributes", [{}, {"lat": 1.0}, {"lat": "x", "lon": 1}, {"lat": 95, "lon": 1}, {"lat": None}])
def test_what_is_no_place(attributes: dict[str, Any]) -> None:
    assert read_coordinates(attributes) is None


def test_a_place_is_a_node_of_the_graph() -> None:
    table = table_of([("u", "a", 0), ("u", "b", 1), ("u", "c", 2)])
    near = [
        Item("a", attributes={"lat": 40.751, "lon": -73.98}),
        Item("b", attributes={"lat": "40.759", "lon": "-73.98"}),
        Item("c", attributes={"lat": 41, "lon": -73.98}),
    ]
    (place,) = [a for a in gather_source(table, EventWeights({}), near).attributes if a.kind == "place"]
    assert place.value[0] == place.value[1] != place.value[2]


TRADES = 10


def share_of_first_touches(settings: Settings, openings: int = 60, events: int = 50, seed: int = 0) -> float:
    """Again and again a stall of every trade opens, and everybody takes that of their own trade.

    Returns how often a stall that nobody has touched yet was listed to the one who touches it first; second half.
    """
    rng, engine, hits = np.random.default_rng(seed), Engine(settings), []
    for opening in range(openings):
        t = opening * events * 60_000 + 1
        for trade in rng.permutation(TRADES):
            engine.introduce(Item(f"s{opening}-{trade}", categories=(f"trade{trade}",)), t)
        user = rng.integers(0, 100, events)
        columns = engine.encode(
            [f"u{u}" for u in user], [f"s{opening}-{u % TRADES}" for u in user],
            [t + n * 60_000 for n in range(events)], [1.0] * events, [None] * events,
        )  # fmt: skip
        rank = engine.take(columns, publish=False).rank
        _, first = np.unique(columns.item, return_index=True)
        hits += [rank[n] > 0 for n in first] if opening >= openings // 2 else []
    return float(np.mean(hits))


def test_an_item_that_nobody_has_touched_is_listed_by_what_it_is() -> None:
    assert share_of_first_touches(Settings(k=2, every_item_below=0)) > 0.8
    assert share_of_first_touches(Settings(k=2, every_item_below=0, without=("content",))) < 0.6


def test_content_is_in_the_checkpoint_and_goes_with_the_item() -> None:
    engine = Engine(Settings())
    engine.introduce(Item("a", categories=("x",)), 1)
    model = engine.model
    assert np.linalg.norm(model.content.vector[0].astype(float)) == pytest.approx(SCALE, rel=0.05)
    again = Model(model.config)
    load_pages(again, all_pages(model).items())
    assert (again.content.vector[:1] == model.content.vector[:1]).all()
    assert again.content.known[0] == 1
    model.delete(0)
    assert not model.content.vector[0].any()
    assert model.content.vector.shape[1] == SIZE
