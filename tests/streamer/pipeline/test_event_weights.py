"""A weight is bounded wherever interactions are taken: nobody's record ruins everybody's lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.files.interactions import read_interactions
from streamer.errors import UsageError
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.settings import Settings
from tests.streamer.state.test_pending_repairs import World, event

VALUES: list[tuple[float, bool]] = [
    (5.0, True), (5_000.0, True), (100_000.0, True), (100_001.0, False), (1e30, False), (1e39, False), (-1e39, False),
    (1e-50, False), (0.0, True),
]  # fmt: skip


@pytest.mark.parametrize(("value", "good"), VALUES)
def test_an_outlier_is_a_dead_letter_live_and_in_replay(
    value: float, good: bool, settings: Settings, tmp_path: Path
) -> None:
    world = World(event_weights={"view": "value"})
    rows = [event(n % 3, n % 5, n, f"e{n}", value=3.0) for n in range(20)]
    rows.insert(10, event(1, 1, 10, "odd", value=value))
    output = world.take(rows)
    assert [letter.reason for letter in output.admitted.dead] == ([] if good else ["bad-value"])
    assert np.isfinite(world.state.engine.model.graph.co.total).all()
    last = [r.value for r in output.records if r.topic == "recommendations"]
    assert last
    assert all(b"null" not in (value or b"").replace(b'"fallback":null', b"") for value in last)
    again = world.take([event(1, 1, 30, "odd", value=3.0)])
    assert again.admitted.duplicates == good, "a refused record reserves no id"

    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(rows))
    result = replay(
        read_interactions(file), settings.model_copy(update={"event_weights": {"view": "value"}}), ReplayOptions()
    )
    assert dict(result.dead) == ({} if good else {"bad-value": 1})


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf"), 1e39, 1e30, -200_000])
def test_a_weight_that_cannot_be_is_refused_in_settings(weight: float, settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"event_weights.*(max_weight|finite)"):
        Settings.load(event_weights={"view": weight})
    with pytest.raises(UsageError, match="max_weight"):
        Settings.load(max_weight=weight if weight > 1e10 or not weight > 0 else 1e30)


def test_the_bound_is_a_setting(settings: Settings) -> None:
    assert Settings.load(event_weights={"view": 150_000}, max_weight=200_000).max_weight == 200_000
    world = World(event_weights={"view": "value"}, max_weight=10)
    admitted = world.take([event(1, 1, 1, value=10.0), event(1, 1, 2, value=11.0)]).admitted
    assert (len(admitted.placed), len(admitted.dead)) == (1, 1)


def test_a_long_context_is_not_kept(settings: Settings) -> None:
    """Producers choose texts; caches keep short ones only, and long ones count all the same."""
    from consumers import partitioner
    from consumers.schemas import Item
    from streamer.features import contexts, item_content

    long: dict[str, Any] = {"geo": "x" * 100_000}
    for n in range(5):
        contexts.rows_of_contexts([long | {"os": f"{n}" + "y" * 100_000}])
        item_content.hash_content(Item("i", attributes={"text": f"{n}" + "z" * 100_000}))
        partitioner.partition_of(f"{n}".encode() + b"k" * 100_000, 4)
    before = contexts._cached.cache_info().misses, item_content._cached.cache_info().misses
    kept = partitioner._cached.cache_info().misses
    contexts.rows_of_contexts([long])
    item_content.hash_content(Item("i", attributes={"text": "z" * 100_000}))
    partitioner.partition_of(b"k" * 100_000, 4)
    assert (contexts._cached.cache_info().misses, item_content._cached.cache_info().misses) == before
    assert partitioner._cached.cache_info().misses == kept
    assert (contexts.rows_of_contexts([long]) != -1).sum() == 1
    assert json.dumps(long)
