"""Groups of users who take the same items."""

import json

import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.errors import UsageError
from streamer.experiments.graph_groups import groups_of_topic, records_with_groups, share_within, split
from streamer.settings import Settings
from tests.scenarios.test_worker import interaction
from tests.worlds.circles import circles


def test_most_of_what_moves_a_user_is_in_the_own_group() -> None:
    world = circles(np.random.default_rng(0), users=600, count=30, strays=0.1)
    group = split(world.user, world.item, world.users, world.items, 15)
    assert np.bincount(group).max() <= 1.5 * world.users / 15 + 1
    ties = (world.seen * (group[:, None] == group)).sum(axis=1).mean()
    random = np.random.default_rng(1).integers(0, 15, world.users)
    assert ties > 0.6
    assert share_within(world.user, world.item, group) > 0.7 > share_within(world.user, world.item, random)


def test_records_with_groups_keep_what_is_known_of_users(log: OwnedLog, settings: Settings) -> None:
    log.append([interaction(f"u{n}", f"i{n % 2}{m}", 1_000 * n + m) for n in range(20) for m in range(3)])
    known = {"user_id": "u3", "plan": "gold", "timestamp": 5, "circle": 99}
    log.append([NewRecord("users", b"u3", json.dumps(known).encode()), NewRecord("users", b"u4", b"{broken")])
    found = groups_of_topic(log, settings, 2)
    records = {one["user_id"]: one for one in records_with_groups(log, settings, "circle", found)}
    assert records.keys() == {f"u{n}" for n in range(20)}
    circle = {name: one.pop("circle") for name, one in records.items()}
    assert {circle[f"u{n}"] for n in range(0, 20, 2)} == {circle["u0"]}
    assert {circle[f"u{n}"] for n in range(1, 20, 2)} == {circle["u1"]} != {circle["u0"]}
    assert found.within == 1
    with pytest.raises(UsageError, match="21 groups of 20 users; take fewer groups"):
        groups_of_topic(log, settings, 21)
    assert records["u3"] == {"user_id": "u3", "plan": "gold", "timestamp": 5}
    assert records["u4"] == {"user_id": "u4"}


def test_who_was_erased_has_no_record_and_what_a_session_did_is_its_user_s(log: OwnedLog, settings: Settings) -> None:
    log.append([interaction(f"u{n}", f"i{n % 2}{m}", 1_000 * n + m) for n in range(8) for m in range(3)])
    log.append([NewRecord("interactions", b"u2", b'{"merge": "u6", "upto": {"0": 24}, "user_id": "u2"}')])
    log.append([NewRecord("users", b"u5", b'{"user_id": "u5", "age": 3}'), NewRecord("users", b"u5", None)])
    found = groups_of_topic(log, settings, 2)
    said = [one["user_id"] for one in records_with_groups(log, settings, "circle", found)]
    assert sorted(said) == ["u0", "u1", "u2", "u3", "u4", "u7"]
