"""Many lists that are made anew at once: in pieces between which questions are answered, and the same whatever the pieces."""

import json
from typing import Any

import numpy as np
import pytest

from consumers.records import Record
from consumers.schemas import Item
from streamer.lists.rule_records import read_rules
from streamer.pipeline.epoch import ItemChange, epoch_input
from streamer.pipeline.surface_lists import RELISTED_AT_ONCE
from streamer.pipeline.surfaces import build_surfaces
from tests.scenarios.test_rules import RULES
from tests.streamer.asking.asked_world import AskedWorld, ids, shop

USERS = 5 * RELISTED_AT_ONCE + 3


def a_shop(rules: dict[str, Any], **more: Any) -> AskedWorld:
    world = AskedWorld(k=20)
    items = [Item(f"i{n}", attributes={"price": n, "kind": f"k{n % 4}", "seen_at": 0}) for n in range(40)]
    world.take([], *(ItemChange(one.item_id, one) for one in items))
    for surface, own in ({"default": rules} | more).items():
        checked = read_rules(own | {"surface": surface})
        world.state.take_rules({surface: {"version": checked.version(), "rules": checked.text()}})
    world.take(shop(users=USERS, events=1_500))
    return world


@pytest.mark.parametrize("name", RULES)
def test_pieces_change_no_list(name: str) -> None:
    world = a_shop(RULES[name])
    surface, users = build_surfaces(world.state).main(), np.arange(USERS, dtype=np.int32)
    looks: list[int] = []

    def made(between: Any) -> list[bytes]:
        world.model.forget_published(users)
        outcome, propensity = surface.relist(users, 10**8, lambda n: f"list-{n}", between=between)
        columns = (*outcome.published, *outcome.evidence, outcome.changed)
        return [array.tobytes() for array in (*columns, *([] if propensity is None else [propensity]))]

    assert made(lambda: looks.append(1)) == made(None)
    assert len(looks) == -(-USERS // RELISTED_AT_ONCE)


@pytest.mark.parametrize("beside", [{}, {"aside": {"publish": True, "explore": 0.5}}])
def test_questions_are_answered_while_many_lists_are_made_anew(beside: dict[str, Any]) -> None:
    """What is asked in between sees a whole state, and what is published does not depend on it."""
    published = []
    for asks in (False, True):
        world, answers = a_shop({"quotas": [{"per": "item.kind", "max": 9}]}, **beside), []
        popular = ids(world.ask("popular", scale="all"))[0]
        world.pipeline.between = (lambda: answers.append(world.listed(user_id="u1"))) if asks else (lambda: None)  # noqa: B023
        hidden = (Record("items", 0, 0, None, None, (), 0), ItemChange(popular, Item(popular, hidden=True)))
        output = world.pipeline.take(epoch_input((), [hidden], repair=True))
        named = [record for record in output.records if record.topic.startswith("recommendations") and record.value]
        assert len(named) > 2 * RELISTED_AT_ONCE
        assert not asks or len(answers) >= len(named) // RELISTED_AT_ONCE
        assert all(popular not in one for one in answers[1:])
        published.append([(record.topic, record.key, record.value) for record in output.records])
    assert published[0] == published[1]


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        ({}, {}),
        ({}, {"publish_distance": 0.3}),
        ({}, {"publish_distance": 0.9}),
        ({"quotas": [{"per": "item.kind", "max": 2}]}, {}),
        ({"quotas": [{"per": "item.kind", "max": 2}]}, {"publish_distance": 0.3}),
    ],
)
def test_no_list_leaves_twice_in_a_row_and_each_that_leaves_is_told(
    rules: dict[str, Any], settings: dict[str, Any]
) -> None:
    """By interactions, and made anew where an item is hidden and shown again."""
    world, last, again = AskedWorld(k=8, **settings), dict[bytes | None, list[str]](), 0
    world.say(*(Item(f"i{n}", attributes={"kind": f"k{n % 8}"}) for n in range(40)))
    if rules:
        checked = read_rules(rules | {"surface": "default"})
        world.state.take_rules({"default": {"version": checked.version(), "rules": checked.text()}})
    events = shop(users=20, events=600)
    for first in range(0, len(events), 20):
        item = f"i{first // 20 % 40}"
        hidden = Item(item, attributes={"kind": f"k{int(item[1:]) % 8}"}, hidden=not first // 20 % 2)
        said = [(Record("items", 0, 0, None, None, (), 0), ItemChange(item, hidden))]
        for output in (world.take(events[first : first + 20]), world.pipeline.take(epoch_input((), said, repair=True))):
            lists = [record for record in output.records if record.topic == "recommendations"]
            if output.taken:
                users = {output.taken[n].record.key for n in output.published.tolist()}
                assert users == {record.key for record in lists}
                assert len(users) == len(output.published)
            else:
                again += len(lists)
            for record in lists:
                names = [one["item_id"] for one in json.loads(record.value or b'{"items": []}')["items"]]
                assert last.get(record.key) != names
                last[record.key] = names
    assert again > 20
