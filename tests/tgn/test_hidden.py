"""A hidden item is in no list, counts on, and survives a checkpoint; an item that is shown again is as never hidden."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.config import ModelConfig
from tgn.model import NO_VECTOR, Model
from tgn.serialization import all_pages, changed_pages, load_pages

ITEMS, USERS = 12, 4
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)),
        st.tuples(st.sampled_from(["hide", "show", "delete"]), st.just(0), st.integers(0, ITEMS - 1)),
    ),
    max_size=40,
)


def new_model(every_item_below: int) -> Model:
    model = Model(ModelConfig(every_item_below=every_item_below))
    model.users.encode([f"u{n}" for n in range(USERS)])
    model.items.encode([f"i{n}" for n in range(ITEMS)])
    return model


def step(model: Model, n: int, what: str, user: int, item: int) -> None:
    if what == "take":
        one = np.ones(1, np.uint8)
        model.take(np.array([user], np.int32), np.array([item], np.int32), np.array([n], np.int64),
                   one.astype(np.float32), k=ITEMS, score=one, learn=one, publish=one)  # fmt: skip
    elif what == "delete":
        model.delete(item)
    else:
        model.introduce(item, n, NO_VECTOR, hidden=what == "hide")


@given(STEPS, st.sampled_from([0, 500]))
@settings(max_examples=60)
def test_no_list_names_a_hidden_item_and_every_list_names_the_others(
    steps: list[tuple[str, int, int]], every_item_below: int
) -> None:
    model, hidden, known = new_model(every_item_below), set[int](), set[int]()
    store: dict[bytes, bytes | None] = {}
    for n, (what, user, item) in enumerate(steps):
        step(model, n, what, user, item)
        store.update(changed_pages(model))
        known |= {item} if what != "delete" else set()
        if what != "take":
            (hidden.discard if what == "show" else hidden.add)(item)
    restored = new_model(every_item_below)
    load_pages(
        restored, sorted((key, value) for key, value in store.items() if value is not None) or all_pages(model).items()
    )
    assert all_pages(restored) == all_pages(model)
    for user in range(USERS):
        items = model.recommend(user, len(steps), ITEMS)
        assert set(items) == known - hidden
        assert restored.recommend(user, len(steps), ITEMS) == items


def test_an_item_that_is_shown_again_is_as_never_hidden() -> None:
    """But for its place in the heads, which is no part of what they say."""
    always, between = new_model(0), new_model(0)
    for n in range(200):
        item = (n * n) % ITEMS
        for model in (always, between):
            step(model, n, "take", n % USERS, item)
        if n in (50, 120):
            step(between, n, "hide", 0, 4)
        if n in (90, 150):
            step(between, n, "show", 0, 4)
            step(always, n, "show", 0, 4)
    assert np.array_equal(always.graph.items.events, between.graph.items.events)
    assert np.array_equal(always.graph.items.popularity, between.graph.items.popularity)
    for scale, size in enumerate(always.graph.heads.size):
        heads = [
            sorted(zip(m.graph.heads.item[scale, :size], m.graph.heads.key[scale, :size], strict=True))
            for m in (always, between)
        ]
        assert heads[0] == heads[1]
