"""Many lists that are made anew at once: in pieces between which questions are answered, and the same whatever the pieces."""

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
