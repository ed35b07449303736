"""Every feature has places of its own, in the block that the ranker reads it from."""

from tgn import features
from tgn.config import POPULARITY_SCALES, ModelConfig
from tgn.features import FEATURES, RING_FEATURES, USER_FEATURES, WIDTHS

NO_FEATURES = {
    "AGES",
    "RING_FEATURES",
    "USER_FEATURES",
    "FEATURES",
    "TRANSITIONS_APART",
    "HOUR_WIDTH_MS",
    "WEEK_WIDTH_MS",
}
BLOCKS = [(0, RING_FEATURES), (RING_FEATURES, USER_FEATURES), (USER_FEATURES, FEATURES)]


def _places() -> dict[str, range]:
    """Where each feature stands."""
    imported = {"CO_INTERACTION", "HOUR_MS", "HOURS", "POPULAR", "POPULARITY_SCALES", "TRANSITIONS"}
    first = {
        name: value
        for name, value in vars(features).items()
        if name.isupper() and isinstance(value, int) and name not in NO_FEATURES | imported
    }
    return {name: range(place, place + WIDTHS.get(name, 1)) for name, place in first.items()}


def test_no_feature_stands_on_another() -> None:
    taken = [place for places in _places().values() for place in places]
    assert len(taken) == len(set(taken))
    assert set(WIDTHS) < set(_places())


def test_blocks_are_filled_but_for_their_last_places() -> None:
    """The kernel reads four features at a time: blocks end at multiples of 4, with fewer than 4 places to spare."""
    taken = {place for places in _places().values() for place in places}
    for first, end in BLOCKS:
        spare = sorted(set(range(first, end)) - taken)
        assert end % 4 == 0
        assert len(spare) < 4
        assert spare == list(range(end - len(spare), end))
    assert max(taken) < FEATURES


def test_no_feature_crosses_a_block() -> None:
    for name, places in _places().items():
        assert any(first <= places[0] and places[-1] < end for first, end in BLOCKS), name


def test_there_is_a_place_for_every_time_scale() -> None:
    assert WIDTHS["POPULARITY"] == POPULARITY_SCALES == len(ModelConfig().popularity_scales_ms)
    assert WIDTHS["AGE"] <= POPULARITY_SCALES
