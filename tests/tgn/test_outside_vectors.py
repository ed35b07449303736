"""Vectors from outside the stream: features worked out by hand, and the nearest of those that wait."""

import numpy as np

from tgn.config import ModelConfig
from tgn.features import CONTENT_LAST, CONTENT_RING, FEATURES, TRAINED_LAST, TRAINED_RING, TRAINED_USER
from tgn.graph import no_contexts
from tgn.model import Model
from tgn.outside_vectors import SIZE, content_features, nearest_waiting, sum_taste, trained_features
from tgn.serialization import all_pages, load_pages

X, Y, DIAGONAL = (1.0, 0.0), (0.0, 1.0), (0.5**0.5, 0.5**0.5)


def rows(*vectors: tuple[float, float]) -> np.ndarray:
    """[N, SIZE], scaled so that 8 bits hold them well: a cosine does not mind."""
    out = np.zeros((len(vectors), SIZE), np.float32)
    out[:, :2] = np.array(vectors).reshape(-1, 2) * 0.45
    return out


def model_of(*taken: int, items: int = 4) -> Model:
    """User u has taken these items, one after the other; the dislikes are negative."""
    model = Model(ModelConfig())
    model.users.encode(["u", "v"])
    model.items.encode([f"i{n}" for n in range(items)])
    n = len(taken)
    model.take(
        np.zeros(n, np.int32), np.abs(np.array(taken, np.int32)), np.arange(n, dtype=np.int64),
        np.array([1 if item >= 0 else -1 for item in taken], np.float32), no_contexts(n),
        k=2, score=np.zeros(n, np.uint8), learn=np.zeros(n, np.uint8), publish=np.zeros(n, np.uint8),
    )  # fmt: skip
    return model


def test_cosines_with_the_last_item_and_with_the_ring() -> None:
    model = model_of(1, -3, 0)
    model.set_outside_vectors("v1", [0], rows(DIAGONAL), [0, 1, 2, 3], rows(X, Y, DIAGONAL, X))
    x, taste = np.zeros((FEATURES, 16), np.float32), np.zeros(SIZE, np.float32)
    candidates = np.arange(4, dtype=np.int32)
    assert sum_taste(model.trained.item, model.graph.users, 0, taste)
    trained_features(model.trained, model.graph.users, 0, candidates, x, 4, taste)
    scale = 0.45**2  # of what is no cosine with vectors of length 1
    last, ring = x[TRAINED_LAST, :4] / scale, x[TRAINED_RING, :4] / 0.45
    assert np.allclose(last, [1, 0, 0.5**0.5, 1], atol=0.02)
    nearer, older = 1, 3**-0.5  # 1 / √(1 + places back); the dislike in between does not count
    length = (nearer**2 + older**2) ** 0.5
    expected = np.array([nearer, older, (nearer + older) * 0.5**0.5, nearer]) / length
    assert np.allclose(ring, expected, atol=0.02)
    assert np.allclose(x[TRAINED_USER, :4] / scale, [0.5**0.5, 0.5**0.5, 1, 0.5**0.5], atol=0.02)
    assert not x[[CONTENT_LAST, CONTENT_RING]].any()
    assert not sum_taste(model.trained.item, model.graph.users, 1, taste)  # who has done nothing
    content_features(model.content, model.graph.users, 0, candidates, x, 4, taste)
    assert not x[[CONTENT_LAST, CONTENT_RING]].any()  # nothing is known of the items


def test_the_nearest_of_those_that_nobody_has_touched() -> None:
    model = model_of(0, items=40)
    for item in range(40):
        angle = item / 40 * np.pi / 2
        model.introduce(item, 0, rows((np.cos(angle), np.sin(angle)))[0])
    model.delete(5)
    taste, out, score = np.zeros(SIZE, np.float32), np.zeros(3, np.int32), np.zeros(3, np.float32)
    sum_taste(model.content, model.graph.users, 0, taste)
    assert nearest_waiting(model.waiting, model.content, model.graph.items, taste, out, score) == 3
    assert out.tolist() == [1, 2, 3]  # 0 is touched
    taste[:2] = np.cos(np.pi / 16), np.sin(np.pi / 16)  # that of item 5, which is gone
    nearest_waiting(model.waiting, model.content, model.graph.items, taste, out, score)
    assert sorted(out.tolist()) == [4, 6, 7] or sorted(out.tolist()) == [3, 4, 6]


def test_a_version_goes_through_a_checkpoint_and_out_again() -> None:
    model = model_of(1, 0)
    model.set_outside_vectors("v1", [0], rows(X), [0, 2], rows(X, Y))
    again = Model(model.config)
    load_pages(again, all_pages(model).items())
    assert again.trained_version == "v1"
    assert all_pages(again) == all_pages(model)
    assert again.trained.item.known[0] == 1
    model.forget_user(0)
    model.delete(2)
    assert not model.trained.user.vector.any()
    assert not model.trained.item.vector[2].any()
    model.set_outside_vectors("", [], rows(), [], rows())
    again = Model(model.config)
    load_pages(again, all_pages(model).items())
    assert (again.trained_version, again.trained.item.known[0]) == ("", 0)
