"""What is observed alone leaves the state that it leaves where it is taken and nobody asks for a list."""

import numpy as np
import pytest

from tgn.config import ModelConfig
from tgn.model import Model
from tgn.serialization import all_pages

N, USERS, ITEMS = 700, 25, 90


@pytest.mark.parametrize("request_context", [False, True])
def test_observed_and_taken_without_a_list_are_one(request_context: bool) -> None:
    rng = np.random.default_rng(4)
    user = rng.integers(0, USERS, N).astype(np.int32)
    item = (rng.zipf(1.3, N) % ITEMS).astype(np.int32)
    t = 1_700_000_000_000 + np.cumsum(rng.integers(-2_000, 60_000, N))
    weight = rng.choice(np.array([1, 0.5, 0, -1], np.float32), N)
    context = rng.integers(-1, 40, (N, 6)).astype(np.int16)
    no = np.zeros(N, np.uint8)
    taken, observed = Model(ModelConfig()), Model(ModelConfig())
    for model in (taken, observed):
        model.users.encode([f"u{n}" for n in range(USERS)])
        model.items.encode([f"i{n}" for n in range(ITEMS)])
    for first in range(0, N, 70):
        columns = [column[first : first + 70] for column in (user, item, t, weight, context)]
        flags = no[first : first + 70]
        taken.take(*columns, k=5, score=flags, learn=flags, publish=flags, request_context=request_context)
        observed.observe(*columns)
    assert observed.events == taken.events == N
    assert all_pages(observed) == all_pages(taken)
