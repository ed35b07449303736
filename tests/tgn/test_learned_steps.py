"""What one model learned, added to another: the weights are those of one that learned all of it."""

import numpy as np
import pytest

from tgn.config import ModelConfig
from tgn.graph import no_contexts
from tgn.model import Model
from tgn.ranker import SHORTEST_MEAN
from tgn.retrieval import refresh_vector
from tgn.sharing.learned_steps import LearnedStep, Unshared, _kept, add, begin, fits, from_page, page_of, take_step

N, USERS, ITEMS = 240, 12, 30
CONFIG = ModelConfig()
RANKER = ("fast", "slow", "variance", "weights")


def new_model() -> Model:
    model = Model(CONFIG)
    model.users.encode([f"u{n}" for n in range(USERS)])
    model.items.encode([f"i{n}" for n in range(ITEMS)])
    return model


def take(model: Model, first: int, last: int, learn: bool) -> None:
    """Events [first, last) of a stream in which users follow items of their own third."""
    row = np.arange(first, last)
    user, flags = (row * 7 % USERS).astype(np.int32), np.ones(len(row), np.uint8)
    item = ((row * row + user) % (ITEMS // 3) * 3 + user % 3).astype(np.int32)
    context = no_contexts(len(row))
    context[:, 0] = user % 5 + 1
    t, weight = row * 60_000 + 1_000_000, np.ones(len(row), np.float32)
    model.take(
        user, item, t, weight, context, k=5, score=flags * learn, learn=flags * learn, publish=flags * 0
    )  # fmt: skip


def weights(model: Model) -> dict[str, np.ndarray]:
    ranker = {name: getattr(model.ranker, name) for name in RANKER}
    of_items = {name: array[:ITEMS] for name, array in model.embeddings._asdict().items() if name != "dirty"}
    return ranker | of_items | {"contexts": model.contexts.vector, "sums": model.contexts.adagrad} | {
        "popularity": model.popularity.weight, "popularity_sums": model.popularity.adagrad,
        "steps": model.ranker.steps,
    }  # fmt: skip


def close(one: Model, other: Model, tolerance: float = 2e-5) -> None:
    for name, array in weights(one).items():
        if name != "moved":
            np.testing.assert_allclose(array, weights(other)[name], rtol=1e-3, atol=tolerance, err_msg=name)


def same_step(one: LearnedStep, other: LearnedStep, tolerance: float) -> None:
    for mine, theirs in zip(one[:3], other[:3], strict=True):
        assert mine.row.tolist() == theirs.row.tolist()
    assert one.ranker is not None
    assert other.ranker is not None
    assert one.ranker.steps == other.ranker.steps
    arrays = [[*step.history, *step.candidate, *step.context, *step[3:-1]] for step in (one, other)]
    for a, b in zip((*arrays[0], one.ranker.fast), (*arrays[1], other.ranker.fast), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_the_first_step_is_all_that_was_learned() -> None:
    old, fresh = new_model(), new_model()
    take(old, 0, N, True)
    take(fresh, 0, N, False)
    before = {name: array.copy() for name, array in weights(fresh).items()}
    assert not np.allclose(before["history"], weights(old)["history"], atol=1e-3)
    add(fresh, begin(fresh), [(take_step(old, begin(old), 1.0), 1.0)])
    close(fresh, old)


@pytest.mark.parametrize("piece", [1, 4])
def test_two_that_take_turns_and_tell_each_other_are_as_one(piece: int) -> None:
    alone, pair = new_model(), [new_model(), new_model()]
    kept = [begin(model) for model in pair]
    for n, first in enumerate(range(0, N, piece)):
        take(alone, first, first + piece, True)
        mine, theirs = n % 2, 1 - n % 2
        take(pair[mine], first, first + piece, True)
        take(pair[theirs], first, first + piece, False)
        add(pair[theirs], kept[theirs], [(take_step(pair[mine], kept[mine], 1.0), 1.0)])
    for model in pair:
        close(model, alone, 5e-3)


def test_what_is_added_is_none_of_what_is_to_be_told() -> None:
    other, quiet, told = new_model(), new_model(), new_model()
    for model in (other, quiet, told):
        take(model, 0, 40, True)
    kept = [begin(model) for model in (other, quiet, told)]
    for model, unshared in zip((other, quiet, told), kept, strict=True):
        take_step(model, unshared)
    for model in (quiet, told):
        take(model, 40, 60, True)
    take(other, 60, 90, True)
    theirs = take_step(other, kept[0])
    add(told, kept[2], [(theirs, 0.5)])
    same_step(take_step(told, kept[2]), take_step(quiet, kept[1]), 1e-5)
    nothing = take_step(told, kept[2])
    assert [len(rows.row) for rows in nothing[:3]] == [0, 0, 0]
    assert nothing.ranker is not None
    assert nothing.ranker.steps == 0


@pytest.mark.parametrize("told", [0.5, 0.9, 0.999])
def test_a_step_has_the_rows_that_moved_most(told: float) -> None:
    whole, thin = new_model(), new_model()
    for model in (whole, thin):
        take(model, 0, 60, True)
    every, most = take_step(whole, begin(whole), 1.0), take_step(thin, begin(thin), told)
    for all_rows, rows in zip(every[:2], most[:2], strict=True):
        moved = (all_rows.vector**2).sum(axis=1)
        assert (moved > 0).all()
        kept = np.isin(all_rows.row, rows.row)
        assert 0 < kept.sum() < len(moved) + (told > 0.99)
        assert moved[kept].min() >= moved[~kept].max(initial=0)
        assert told * moved.sum() <= moved[kept].sum() <= told * moved.sum() + moved[kept].min()
        assert (all_rows.vector[kept] == rows.vector).all()


def test_a_share_goes_a_part_of_the_way() -> None:
    other, half = new_model(), new_model()
    take(other, 0, 60, True)
    take(half, 0, 60, False)
    start = half.embeddings.candidate.copy()
    step = take_step(other, begin(other), 1.0)
    add(half, begin(half), [(step, 0.5)])
    moved = half.embeddings.candidate - start
    np.testing.assert_allclose(moved[step.candidate.row], step.candidate.vector / 2, atol=1e-6)
    np.testing.assert_allclose(half.embeddings.candidate_adagrad, other.embeddings.candidate_adagrad, atol=1e-5)


def test_candidates_are_found_by_what_was_added() -> None:
    other, model = new_model(), new_model()
    take(other, 0, N, True)
    take(model, 0, N, False)
    step = take_step(other, begin(other))
    model.embeddings.dirty[:] = 0
    add(model, begin(model), [(step, 1.0)])
    found = model.active.vector.copy()
    for item in range(ITEMS):
        refresh_vector(model.active, model.embeddings, item)
    assert (found == model.active.vector).all()
    assert len(step.candidate.row) > ITEMS / 3
    written = np.union1d(step.history.row, step.candidate.row)
    assert np.flatnonzero(model.embeddings.dirty).tolist() == written.tolist()


def test_what_is_not_told_yet_comes_back_from_its_page() -> None:
    models = [new_model(), new_model()]
    kept: list[Unshared] = []
    for model in models:
        take(model, 0, 50, True)
        kept.append(begin(model))
        take_step(model, kept[-1])
        take(model, 50, 80, True)
    page = page_of(models[0], kept[0])
    kept[0] = from_page(models[0], page)
    assert page_of(models[0], kept[0]) == page == page_of(models[1], kept[1])
    steps = [take_step(model, unshared) for model, unshared in zip(models, kept, strict=True)]
    same_step(steps[0], steps[1], 0.0)
    with pytest.raises((ValueError, IndexError)):
        from_page(models[0], page[:1] + bytes([page[1] ^ 1]) + page[2:])


def test_rows_that_come_later_have_room() -> None:
    model, other = new_model(), new_model()
    kept = begin(model)
    model.items.encode([f"later{n}" for n in range(5_000)])
    other.items.encode([f"later{n}" for n in range(5_000)])
    take(other, 0, 50, True)
    add(model, kept, [(take_step(other, begin(other)), 1.0)])
    assert len(kept.embeddings.history) == len(model.embeddings.history) >= 5_000
    assert len(take_step(model, kept).candidate.row) == 0


def test_a_step_of_another_shape_does_not_fit() -> None:
    model, wide = new_model(), Model(ModelConfig(embedding=64))
    assert fits(model, take_step(model, begin(model)))
    assert not fits(model, take_step(wide, begin(wide)))


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 5), (3, 40), (9_990, 10_010), (0, 20_000), (12_000, 12_050)])
def test_what_is_left_of_a_mean_is_the_product_of_what_each_step_leaves(first: int, last: int) -> None:
    shares = [max(1 / (step + 1), float(SHORTEST_MEAN)) for step in range(first + 1, last + 1)]
    assert _kept(first, last) == pytest.approx(np.prod([1 - share for share in shares]), rel=1e-6)
