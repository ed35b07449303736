"""An experiment in a worker: users are dealt to arms, lists name them, and all of it comes to the same again."""

from typing import Any

import msgspec
import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.schemas import EpochManifest
from streamer.asking.answers import Answers
from streamer.asking.questions import ListQuestion
from streamer.errors import RulesRefused
from streamer.experiments.experiment_records import create, experiments, read_experiment, start, stop
from streamer.lists.assignment import arm_of
from streamer.lists.rules import HOLDBACK, Rules
from streamer.lists.rules_on_log import read_all_rules
from streamer.ops.audit import audit, digest
from streamer.pipeline.surface_lists import SurfaceLists
from streamer.pipeline.surfaces import build_surfaces
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tests.scenarios.test_rules import ITEMS, RARE, USERS, apply, crash, interactions, item, user, values_of
from tests.scenarios.test_worker import read_all, run

ARMS: dict[str, dict[str, Any]] = {
    "boosts": {"boosts": [{"if": "item.price >= 25", "factor": 500}]},
    "pins": {"pins": [{"item_id": "i7", "place": 1}]},
    "quotas": {"quotas": [{"per": "item.kind", "max": 1}]},
    "diversity": {"diversity": 0.9},
    "exploration": {"explore": 0.9},
    "debias": {"debias": 1.0},
}
EXPERIMENT = {
    "name": "variety",
    "salt": "s7",
    "holdback": 0.2,
    "arms": [{"name": "as-now", "share": 0.3}, {"name": "new", "share": 0.4}],
}


def wanted(arm: str) -> dict[str, Any]:
    first, second = EXPERIMENT["arms"]  # type: ignore[misc]
    return EXPERIMENT | {"arms": [first, second | ARMS[arm]]}  # type: ignore[operator]


def started(log: OwnedLog, settings: Settings, value: dict[str, Any]) -> None:
    create(log, settings, read_experiment(value), 1_000)
    start(log, settings, value["name"], 2_000)


@pytest.mark.parametrize("arm", ARMS)
def test_users_get_the_lists_of_their_arm_and_a_restart_comes_to_the_same(
    arm: str, log: OwnedLog, settings: Settings
) -> None:
    mine = settings.model_copy(update=RARE | {"k": 8})
    log.append([item(n) for n in range(ITEMS)] + [user(n) for n in range(USERS)])
    log.append(interactions(0))
    run(log, mine)
    started(log, mine, wanted(arm))
    log.append(interactions(100))
    crash(log, mine)  # a restart takes these epochs again, with the experiment in their manifest
    apply(log, mine, {"filter": "item.price < 28"})  # other rules leave it running
    log.append(interactions(200))
    worker = run(log, mine)
    lists = values_of(log)
    experiment = experiments(log, mine)["variety"].on_surface()
    dealt = {who: arm_of(experiment, who) for who in lists}
    assert {HOLDBACK, "as-now", "new", None} >= set(dealt.values()) > {"new"}
    told = {who: None if one.experiment is None else one.experiment for who, one in lists.items()}
    assert told == {
        who: None if arm is None else {"name": "variety", "arm": arm} for who, arm in dealt.items()
    }  # fmt: skip
    found = audit(log, mine)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": digest(worker.state)}
    manifests = [
        msgspec.json.decode(record.value or b"", type=EpochManifest) for record in read_all(log, "freshet.epochs")
    ]
    texts = [one.rules["default"] for one in manifests if one.rules and one.rules["default"]]
    assert [text["rules"]["experiment"]["name"] for text in texts] == ["variety", "variety"]
    assert "filter" in texts[1]["rules"]
    _as_by_rules_of_their_own(worker.state, dealt)
    stop(log, mine, "variety", 3_000)
    log.append(interactions(300))
    run(log, mine)
    assert {one.experiment for one in values_of(log).values()} == {None}


def _as_by_rules_of_their_own(state: StreamState, dealt: dict[str, str | None]) -> None:
    """Each user's list is the one of a surface whose rules are those of their arm."""
    surfaces, ids = build_surfaces(state), state.engine.model.users.ids
    rules = Rules.model_validate(state.rules["default"]["rules"])
    assert rules.experiment is not None
    base, new = rules.model_copy(update={"experiment": None}), rules.of_arm(rules.experiment.arms[1])
    everybody = np.array([node for node, who in enumerate(ids) if who in dealt], np.int32)

    def lists(surface: SurfaceLists) -> np.ndarray:
        return surface.relist(everybody, state.clock_ms).outcome.published.item

    mine, others, theirs = lists(surfaces.main()), lists(surfaces.proposed(base)), lists(surfaces.proposed(new))
    in_new = np.array([dealt[ids[node]] == "new" for node in everybody.tolist()])
    assert in_new.any()
    assert not in_new.all()
    assert (others[in_new] != theirs[in_new]).any()
    assert (mine == np.where(in_new[:, None], theirs, others)).all()


def test_asked_lists_name_the_arm_and_are_made_by_it(log: OwnedLog, settings: Settings) -> None:
    mine = settings.model_copy(update={"k": 8})
    log.append([item(n) for n in range(ITEMS)])
    log.append(interactions(0))
    started(log, mine, wanted("pins"))
    worker = run(log, mine)
    answers = Answers(worker.state, worker.state.settings, SYSTEM_CLOCK)
    experiment = experiments(log, mine)["variety"].on_surface()

    def ask(**question: Any) -> dict[str, Any]:
        asked = ListQuestion.model_validate({"context": {}, **question})
        return msgspec.json.decode(answers.answer(asked).body)  # type: ignore[no-any-return]

    arms = {}
    for n in range(USERS):
        arm, told = arm_of(experiment, f"u{n}"), ask(user_id=f"u{n}")
        arms[arm] = told
        assert told.get("experiment") == (None if arm is None else {"name": "variety", "arm": arm})
        assert (told["items"][0]["item_id"] == "i7" and told["items"][0]["source"] == "pinned") == (arm == "new")
        assert "experiment" not in ask(user_id=f"u{n}", personalize=False)
    assert {"new", "as-now"} <= arms.keys()
    assert "experiment" not in ask(items=["i1"])


def test_users_of_one_group_are_in_one_arm_and_a_restart_comes_to_the_same(log: OwnedLog, settings: Settings) -> None:
    """By a field of users, `plan`; one has no such field and is dealt alone. The salt is chosen at the start."""
    mine = settings.model_copy(update=RARE | {"k": 8})
    log.append([item(n) for n in range(ITEMS)] + [user(n) for n in range(USERS - 1)])
    log.append(interactions(0))
    run(log, mine)
    started(log, mine, wanted("pins") | {"unit": "user.plan", "strata": "user.plan", "holdback": 0.0})
    log.append(interactions(100))
    crash(log, mine)
    log.append(interactions(200))
    worker = run(log, mine)
    experiment = experiments(log, mine)["variety"].on_surface()
    assert experiment.salt.startswith("s7-")
    lists = values_of(log)
    for n in range(USERS):
        group = None if n == USERS - 1 else ("gold" if n % 2 else "free")
        arm = arm_of(experiment, f"u{n}", group)
        told = {"name": "variety", "arm": arm} | ({} if group is None else {"group": group})
        assert lists[f"u{n}"].experiment == (None if arm is None else told)
        assert (lists[f"u{n}"].items[0].item_id == "i7") == (arm == "new")
        asked = ListQuestion.model_validate({"context": {}, "user_id": f"u{n}"})
        answer = msgspec.json.decode(Answers(worker.state, worker.state.settings, SYSTEM_CLOCK).answer(asked).body)
        assert answer.get("experiment") == lists[f"u{n}"].experiment
        assert (answer["items"][0]["source"] == "pinned") == (arm == "new")
    found = audit(log, mine)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": digest(worker.state)}


def test_fatigue_of_an_arm_is_of_lists_that_say_what_was_shown(log: OwnedLog, settings: Settings) -> None:
    first, second = EXPERIMENT["arms"]  # type: ignore[misc]
    log.append([item(n) for n in range(ITEMS)])
    log.append(interactions(0))
    started(log, settings, EXPERIMENT | {"arms": [first, second | {"fatigue": 0.9}]})  # type: ignore[operator]
    worker = run(log, settings)
    answers = Answers(worker.state, worker.state.settings, SYSTEM_CLOCK)
    changed = set[str | None]()
    for n in range(USERS):

        def ask(user: str = f"u{n}", **more: Any) -> dict[str, Any]:
            question = ListQuestion.model_validate({"context": {}, "user_id": user, "k": 5, **more})
            return msgspec.json.decode(answers.answer(question).body)  # type: ignore[no-any-return]

        plain = ask()
        tired = ask(shown={plain["items"][0]["item_id"]: 3})
        if [one["item_id"] for one in tired["items"]] != [one["item_id"] for one in plain["items"]]:
            changed.add((plain.get("experiment") or {}).get("arm"))
    assert changed == {"new"}


def test_an_experiment_goes_one_way(log: OwnedLog, settings: Settings) -> None:
    one = read_experiment(EXPERIMENT)
    with pytest.raises(RulesRefused, match=r"there is no experiment .variety.; there are: none"):
        start(log, settings, "variety", 1)
    create(log, settings, one, 1)
    with pytest.raises(RulesRefused, match="has not been started"):
        stop(log, settings, "variety", 2)
    for _ in range(2):  # done again, it does what is left of it
        assert start(log, settings, "variety", 3).started_ms == 3
    create(log, settings, read_experiment(EXPERIMENT | {"name": "other"}), 4)
    with pytest.raises(RulesRefused, match="'variety' runs on 'default'"):
        start(log, settings, "other", 5)
    with pytest.raises(RulesRefused, match="'variety' is running"):
        create(log, settings, one, 6)
    assert stop(log, settings, "variety", 7).stopped_ms == 7
    assert stop(log, settings, "variety", 8).stopped_ms == 7
    with pytest.raises(RulesRefused, match="was stopped"):
        start(log, settings, "variety", 9)
    assert start(log, settings, "other", 10).state == "running"
    assert {name: record.state for name, record in experiments(log, settings).items()} == {
        "variety": "stopped", "other": "running",
    }  # fmt: skip
    [(_, rules)] = read_all_rules(log, settings)[0].records.items()
    assert rules.now.rules.experiment is not None
    assert rules.now.rules.experiment.name == "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": []}, "arms: "),
        ({"arms": [{"name": "a", "share": 0.5}]}, "arms: "),
        (
            {"arms": [{"name": "a", "share": 0.5}, {"name": "a", "share": 0.5}]},
            "a. is the name of several arms; give each a name of its own",
        ),
        (
            {"arms": [{"name": "a", "share": 0.5}, {"name": "holdback", "share": 0.5}]},
            "holdback. is the name of those who are kept out",
        ),
        (
            {"arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.4}]},
            "shares and holdback are 1.1 together; they may be 1 at most",
        ),
        ({"arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.1, "filter": "true"}]}, "no such field"),
        ({"arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.1, "explore": 2}]}, "arms.1.explore"),
        ({"name": "A b"}, "name: write lower-case"),
        ({"unit": "city"}, "unit: write a field of users, such as user.city"),
        ({"strata": "item.kind"}, "strata: write a field of users, such as user.country"),
    ],
)
def test_what_is_no_experiment_is_refused_with_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RulesRefused, match=message):
        read_experiment(EXPERIMENT | change)
