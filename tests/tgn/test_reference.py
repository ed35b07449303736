"""The page to read first says what the kernels do: a stream through both gives the same lists and the same state.

Scores are compared by their differences: what is the same for every candidate has a gradient of 0, of which float32
leaves a rest, and Adam makes steps of that.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest

from tgn import reference
from tgn.config import DAY_MS, HOUR_MS
from tgn.graph import Rows
from tgn.model import Model
from tgn.prequential import Lists

USERS, ITEMS, EVENTS = 6, 12, 300
NAMES = [f"i{item}" for item in range(ITEMS)]
CLOSE = 2e-4  # float32 after hundreds of steps of learning; 3e-5 was measured
CONSTANTS = (  # SHORTEST_MEAN is missing: only ten thousand events show it
    "SMOOTHING", "LEFT_TO_NEWCOMER", "FLOOR", "SHARE_FLOOR", "NEVER_SEEN", "INITIAL_ADAGRAD", "POPULARITY_RATE", "BETA2",
    "MEAN_SHARE", "WARM_UP",
)  # fmt: skip


class Taken(NamedTuple):
    """A stream as the kernels took it."""

    events: list[reference.Event]
    lists: Lists
    model: Model


def _events() -> list[reference.Event]:
    """Users walk through the catalogue, come back to what they had, and dislike one in six."""
    rng, t, at = np.random.default_rng(0), 20_000 * DAY_MS, [0] * USERS
    events = []
    for user in rng.integers(0, USERS, EVENTS).tolist():
        t += int(rng.integers(1, HOUR_MS))
        at[user] = int(at[user] + rng.choice([0, 1, 1, 2, 5, 7, 8, 10])) % ITEMS
        events.append(reference.Event(user, at[user], t, float(rng.choice([1, 1, 1, 0.5, 2, -1]))))
    return events


@pytest.fixture(scope="module")
def taken() -> Taken:
    events, model = _events(), Model(reference.SMALL)
    model.users.encode([f"u{user}" for user in range(USERS)])
    model.items.encode(NAMES)
    user, item, t, weight = (np.array(column) for column in zip(*events, strict=True))
    ones = np.ones(EVENTS, np.uint8)
    out = model.take(
        user.astype(np.int32), item.astype(np.int32), t.astype(np.int64), weight.astype(np.float32),
        k=ITEMS, score=ones, learn=ones, publish=ones * 0,
    )  # fmt: skip
    return Taken(events, out.test, model)


def _furthest(taken: Taken, state: reference.State) -> float:
    """Takes the stream through the page; the largest difference between two scores, infinite where lists differ."""
    furthest = 0.0
    for n, event in enumerate(taken.events):
        expected, size = reference.take(state, event), int(taken.lists.size[n])
        if [item for item, _ in expected] != taken.lists.item[n, :size].tolist():
            return np.inf
        if size:
            apart = np.array([score for _, score in expected]) - taken.lists.score[n, :size]
            furthest = max(furthest, float(np.ptp(apart)))
    return furthest


def test_the_page_says_what_the_kernels_do(taken: Taken) -> None:
    state, graph = reference.State(reference.SMALL, USERS, NAMES), taken.model.graph
    assert _furthest(taken, state) < CLOSE
    users, items = graph.users, graph.items
    for user, ring in enumerate(state.ring):
        places = taken.model.ring_places(user)
        held = [[int(column[user, place]) for place in places] for column in (users.ring_item, users.ring_time)]
        assert held == [[held.event.item for held in ring], [held.event.t for held in ring]]
        assert users.ring_weight[user, places].tolist() == [held.event.weight for held in ring]
        assert users.ring_count[user, places].tolist() == [held.nth for held in ring]
    same: dict[str, tuple[Any, Any]] = {
        "taken": (users.events[:USERS], state.taken),
        "repeats": (users.repeats[:USERS], state.repeats),
        "events": (items.events[:ITEMS], state.events),
        "first": (items.first_time[:ITEMS], state.first),
        "last": (items.last_time[:ITEMS], state.last),
        "predecessors": (items.predecessors[:ITEMS], state.predecessors),
        "known": (graph.newest.item[: graph.newest.total[0]], state.known),
        "steps": (taken.model.ranker.steps[0], state.steps),
    }
    for name, (ours, theirs) in same.items():
        assert np.array_equal(ours, theirs), name
    for rows, expected in ((graph.transitions, state.transitions), (graph.co, state.co)):
        for item, row in enumerate(expected):
            assert rows.item[item, : rows.size[item]].tolist() == row.items
            assert _weights(rows, item, row.time) == pytest.approx(row.weight, rel=1e-4)
    model = taken.model
    close: dict[str, tuple[Any, Any]] = {
        "popularity": (items.popularity[:ITEMS], state.popularity),
        "history": (model.embeddings.history[:ITEMS], state.history),
        "candidate": (model.embeddings.candidate[:ITEMS], state.candidate),
        "beta": (model.popularity.weight, state.beta),
    }
    for name, (ours, theirs) in close.items():
        assert ours == pytest.approx(theirs, rel=1e-3, abs=CLOSE), name


def _weights(rows: Rows, item: int, t: int) -> Any:
    """[M, S] of a row of the kernels, decayed from its own time to `t`."""
    factor = np.exp((int(rows.time[item]) - t) / np.array(reference.SMALL.row_scales_ms))
    return rows.weight[item, :, : rows.size[item]].T * factor


def test_the_stream_comes_to_what_the_page_describes(taken: Taken) -> None:
    """Rows that are full and drop, rings that are full, dislikes, repeats, and steps of learning."""
    graph = taken.model.graph
    assert (graph.transitions.size[:ITEMS] == reference.SMALL.row).any()
    assert (graph.co.size[:ITEMS] == reference.SMALL.row).all()
    assert (graph.users.events[:USERS] > reference.SMALL.ring).all()
    assert (graph.users.repeats[:USERS] > 0).all()
    assert taken.model.ranker.steps[0] > EVENTS / 2


@pytest.mark.parametrize("name", CONSTANTS)
def test_another_constant_is_noticed(taken: Taken, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, name, getattr(reference, name) * 0.9)
    assert _furthest(taken, reference.State(reference.SMALL, USERS, NAMES)) > CLOSE
