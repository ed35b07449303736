"""A challenger's figures beside the live model's, and how sure their difference is."""

import numpy as np
import pytest

from streamer.monitoring.prequential_quality import BLOCK, LEAST_BLOCKS, PairedMeter

K = 10


def ranks(rng: np.random.Generator, hit_rate: float, count: int) -> np.ndarray:
    """Each the first of its list, missed, or, one in ten, not measured."""
    found = (rng.random(count) < hit_rate).astype(np.int32)
    return np.where(rng.random(count) < 0.1, -1, found)


@pytest.mark.parametrize("cut", [1_000, 77])
def test_means_and_the_error_of_the_difference(cut: int) -> None:
    """By NumPy over whole blocks, whatever batches they come in and whatever checkpoints lie between."""
    rng, count = np.random.default_rng(0), 20_000
    live = ranks(rng, 0.3, count)
    ours = np.where(live < 0, -1, ranks(np.random.default_rng(1), 0.4, count))
    meter = PairedMeter()
    for first in range(0, count, cut):
        meter.add(ours[first : first + cut], live[first : first + cut])
        again = PairedMeter()
        again.restore(meter.state())
        meter = again
    both = (ours >= 0) & (live >= 0)
    hits = np.stack([ours[both], live[both]]).astype(float)
    blocks = hits.shape[1] // BLOCK
    means = (hits[0] - hits[1])[: blocks * BLOCK].reshape(blocks, BLOCK).mean(axis=1)
    found = meter.figures(K)["hr@10"]
    assert meter.events == hits.shape[1]
    assert (found.value, found.live) == pytest.approx(tuple(hits.mean(axis=1)))
    assert found.error == pytest.approx(means.std(ddof=1) / np.sqrt(blocks))


def test_of_few_events_nothing_is_said_of_the_error() -> None:
    meter, hit = PairedMeter(), np.ones(BLOCK * LEAST_BLOCKS - 1, np.int32)
    meter.add(hit, hit * 0)
    assert meter.figures(K)["mrr"] == (1.0, 0.0, None)
    meter.add(hit[:1], hit[:1] * 0)
    assert meter.figures(K)["mrr"] == (1.0, 0.0, 0.0)
