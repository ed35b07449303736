"""How much a worker does between two looks at what is asked, and that looking changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.asking.question_queue import QUESTIONS_AT_ONCE, QuestionQueue
from streamer.asking.questions import Answer
from streamer.lists.publisher import Publisher
from streamer.pipeline.admission import ADMITTED_AT_ONCE
from streamer.pipeline.pipeline import LISTS_AT_ONCE
from streamer.state import ledger, published_lists
from streamer.worker.ageing import Ageing
from tests.streamer.asking.asked_world import AskedWorld, question, shop
from tests.waiting import scaled
from tgn.model import SLICE
from tgn.serialization import ROWS_AT_ONCE


@given(st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_between_two_looks_a_few_interactions_are_taken_and_a_few_lists_written(sizes: list[int]) -> None:
    worlds = AskedWorld(k=5), AskedWorld(k=5)
    events, graph = shop(users=50, events=sum(sizes)), worlds[0].model
    looks: list[tuple[int, int]] = []
    worlds[0].pipeline.between = lambda: looks.append((int(graph.graph.users.events.sum()), written))
    written, make_list = 0, Publisher.make_list

    def counted(*given: object) -> object:
        nonlocal written
        written += 1
        return make_list(*given)  # type: ignore[arg-type]

    for size in sizes:
        some, events = events[:size], events[size:]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Publisher, "make_list", counted)
            looked = worlds[0].take(some)
        assert looked.records == worlds[1].take(some).records
    taken, lists = np.diff(np.array(looks), axis=0, prepend=[[0, 0]]).max(axis=0)
    assert taken <= SLICE
    assert lists <= LISTS_AT_ONCE
    assert len(looks) >= sum(size // ADMITTED_AT_ONCE + -(-size // SLICE) for size in sizes)
    assert worlds[0].digest() == worlds[1].digest()


def test_a_checkpoint_is_packed_between_looks_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked in between, of the ledger too, is what it is before and after."""
    for module in (ledger, published_lists):
        monkeypatch.setattr(module, "WRITTEN_AT_ONCE", 8)
    deltas, looks = [], 0
    for asks in (False, True):
        world = AskedWorld(k=5)
        for first in (0, 200):  # the second one adds to what is held
            world.take(shop(events=400)[first : first + 200])
            told = world.state.ledger.entries(3).tobytes()

            def look(world: AskedWorld = world, told: bytes = told) -> None:
                nonlocal looks
                looks += 1
                assert world.state.ledger.before(3).tobytes() == told

            deltas.append(world.state.delta(look if asks else lambda: None))
            del deltas[-1][b"stream"]  # has a random key
            rows = sum(b"/" in key for key in deltas[-1])
        assert world.state.ledger.entries(3).tobytes() == told
    assert deltas[:2] == deltas[2:]
    assert looks >= 2 * (rows // ROWS_AT_ONCE + 2 * (30 // 8))


def test_whose_list_is_due_is_found_out_between_looks() -> None:
    looks, world = [0], AskedWorld(k=5, age_distance=0.01)
    world.take(shop())

    def look() -> None:
        looks[0] += 1

    ageing = Ageing(world.state, world.settings, world.clock, look)
    world.clock.advance(60)
    ageing.look_ahead()
    assert (
        looks[0] == 1 + len(world.settings.age_after_s) + 1
    )  # a user now and at each later time, and one that is not due


@pytest.mark.parametrize("interactions", [1, 30])
def test_where_questions_never_end_interactions_are_taken_all_the_same(interactions: int) -> None:
    """One at least for every QUESTIONS_AT_ONCE / SLICE of them."""
    world, queue, answered = AskedWorld(k=5), QuestionQueue(), 0
    asked = question("popular")

    def answer(questions: object) -> list[Answer]:
        nonlocal answered
        answered += len(list(questions))  # type: ignore[call-overload]
        replies = [Answer(200, b"")] * len(list(questions))  # type: ignore[call-overload]
        queue.ask([asked] * len(replies))  # whoever has an answer asks again
        return replies

    def looked(serve: Callable[[], None]) -> None:
        nonlocal looks
        looks += 1
        serve()

    looks = 0
    queue.open(answer)
    first = queue.ask([asked] * 10 * QUESTIONS_AT_ONCE)
    world.pipeline.between = lambda: looked(queue.serve)
    world.take(shop(events=interactions))
    assert world.state.records == interactions
    assert answered == looks * QUESTIONS_AT_ONCE  # they come first: as many as may at each look
    between = -(-interactions // SLICE) + interactions // ADMITTED_AT_ONCE + interactions // LISTS_AT_ONCE
    assert looks <= between + 6  # before an epoch, before its interactions, after its lists
    while not first.done():
        queue.serve()
    assert len(first.result(scaled(1))) == 10 * QUESTIONS_AT_ONCE
