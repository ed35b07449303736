"""A challenger beside the live model: measured in shadow, then it makes the lists of its arm, and all of it again."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import CHALLENGER_KEYS, ChallengerQuality, RecommendationList
from streamer.asking.answers import Answers
from streamer.asking.questions import ListQuestion
from streamer.errors import RulesRefused
from streamer.experiments.experiment_records import ExperimentRecord, create, read_experiment, shadow, start, stop
from streamer.experiments.in_words import in_words
from streamer.experiments.report import newest_challengers, newest_results, report_of
from streamer.lists.assignment import arm_of
from streamer.lists.rules_on_log import put_experiment
from streamer.ops.audit import audit, digest
from streamer.pipeline import pipeline
from streamer.pipeline.surface_lists import SurfaceLists
from streamer.pipeline.surfaces import build_surfaces
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.clocks import ManualClock
from tests.scenarios.test_rules import ITEMS, RARE, USERS, apply, crash, interactions, item, user, values_of
from tests.scenarios.test_worker import interaction, read_all, run
from tgn.serialization import all_pages

SAME: dict[str, Any] = {}
OTHER: dict[str, Any] = {
    "learning_rate": 0.02,
    "hidden": 8,
    "popularity_scales_ms": [1_000, 2_000, 4_000, 8_000, 16_000],
}
NAME = "newer/challenger"


def wanted(model: dict[str, Any], **more: Any) -> dict[str, Any]:
    arms = [{"name": "as-now", "share": 0.5}, {"name": "challenger", "share": 0.5, "model": model} | more]
    return {"name": "newer", "salt": "s7", "arms": arms}


def created(log: OwnedLog, settings: Settings, value: dict[str, Any]) -> None:
    create(log, settings, read_experiment(value), 1_000)
    shadow(log, settings, "newer", 1_500)


def in_force(log: OwnedLog, settings: Settings, value: dict[str, Any]) -> tuple[ExperimentRecord, Worker]:
    """Measured in shadow, then started; lists are made anew after a crash."""
    created(log, settings, value)
    log.append(interactions(100))
    run(log, settings)
    record = start(log, settings, "newer", 2_000)
    log.append(interactions(200))
    crash(log, settings)
    return record, run(log, settings)


def figures(log: OwnedLog) -> list[ChallengerQuality]:
    told = [one for one in read_all(log, "quality") if (one.key or b"").startswith(CHALLENGER_KEYS)]
    return [msgspec.json.decode(one.value or b"", type=ChallengerQuality) for one in told]


def pages_of(state: StreamState) -> list[dict[bytes, bytes]]:
    """Of the live model and of the challenger, but for which list of each user was published last."""
    models = [state.engine.model, state.challengers[NAME].engine.model]
    for model in models:
        model.graph.users.list_digest[:] = 0
    return [all_pages(model) for model in models]


def told(log: OwnedLog) -> dict[str, tuple[list[str], list[float]]]:
    return {who: ([i.item_id for i in one.items], [i.score for i in one.items]) for who, one in values_of(log).items()}


def is_whole(log: OwnedLog, settings: Settings, state: StreamState) -> None:
    """The log holds what its epochs give when they are taken again, each once, and the state is what they lead to."""
    found = audit(log, settings)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": digest(state)}


@pytest.fixture
def shop(log: OwnedLog, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a shop with items, users and 100 interactions; figures are told every 20."""
    monkeypatch.setattr(pipeline, "QUALITY_EVERY", 20)
    mine = settings.model_copy(update=RARE | {"k": 8})
    log.append([item(n) for n in range(ITEMS)] + [user(n) for n in range(USERS)])
    log.append(interactions(0))
    run(log, mine)
    return mine


def test_one_that_differs_in_nothing_is_the_live_model_to_the_byte(log: OwnedLog, shop: Settings) -> None:
    """Retractions, an erasure, a deletion, a hidden item, a merge, late ones and a crash among what it follows."""
    created(log, shop, wanted(SAME))
    log.append(interactions(100))
    log.append([interaction("s1", f"i{n}", 12_000_000 + n, event_id=f"s{n}") for n in range(8)])
    log.append([NewRecord("interactions", b"u2", b'{"user_id": "u2", "merge": "s1", "upto": {"0": 0}}')])
    log.append([interaction("u1", "i1", 0, event_id=f"e{n}", retract=True) for n in range(0, 150, 9)])
    crash(log, shop)
    log.append([NewRecord("items", b"i4", None), NewRecord("users", b"u3", None)])
    log.append([item(5, hidden=True)])
    log.append(interactions(200))
    log.append([interaction("u7", f"i{n}", 3_000_000 + n, event_id=f"late{n}") for n in range(5)])
    shop = shop.model_copy(update={"allowed_lateness_ms": 10**9})
    state = run(log, shop).state
    last = figures(log)[-3:]
    assert {one.metric for one in last} == {"hr@8", "ndcg@8", "mrr"}
    assert all(one.value == one.live and one.events >= 100 for one in last)
    assert not any(one.experiment for one in values_of(log).values())
    is_whole(log, shop, state)
    assert state.merges.sessions_of(state.engine.model.users.encode(["u2"])[0])
    live, its = pages_of(state)
    assert live == its


def test_one_that_differs_is_measured_through_crashes_and_shown_to_nobody(log: OwnedLog, shop: Settings) -> None:
    created(log, shop, wanted(OTHER))
    before = len(figures(log))
    log.append(interactions(100))
    crash(log, shop)
    log.append(interactions(200))
    crash(log, shop)
    state = run(log, shop).state
    assert before == 0
    counts = [one.events for one in figures(log)[::3]]  # at most one an epoch, of up to 40
    assert counts == sorted(set(counts))
    assert (len(counts) >= 5, counts[-1]) == (True, 200)
    assert any(one.value != one.live for one in figures(log))
    is_whole(log, shop, state)
    live, its = pages_of(state)
    assert live.keys() == its.keys()
    assert live != its
    report = in_words(
        report_of(read_experiment(wanted(OTHER)), newest_results(log, shop), newest_challengers(log, shop))
    )
    assert any(line.startswith("challenger has hr@8 ") and "over 200 interactions" in line for line in report)


def test_lists_are_what_they_are_without_one(log: OwnedLog, shop: Settings, tmp_path: Path) -> None:
    """Whatever it learns, the live model's state and lists have none of it.

    The other log has the same experiment in shadow, without a model: rules that change have everybody listed anew.
    """
    alone = shop.model_copy(update={"log": tmp_path / "alone", "state": tmp_path / "state of alone"})
    with OwnedLog(tmp_path / "alone") as without:
        without.create(topic_specs(alone, partitions=1))
        without.append([item(n) for n in range(ITEMS)] + [user(n) for n in range(USERS)])
        without.append(interactions(0))
        run(without, alone)
        plain = read_experiment(wanted(OTHER)).on_surface()
        arms = tuple(arm.model_copy(update={"model": None}) for arm in plain.arms)
        put_experiment(without, alone, "default", plain.model_copy(update={"arms": arms, "shadow": True}), 1_500)
        without.append(interactions(100))
        expected, live = run(without, alone).state, told(without)
    created(log, shop, wanted(OTHER))
    log.append(interactions(100))
    found = run(log, shop).state
    assert told(log) == live
    assert all_pages(found.engine.model) == all_pages(expected.engine.model)


@pytest.mark.parametrize("more", [{}, {"diversity": 0.5}], ids=["plain", "with wishes"])
def test_users_of_its_arm_get_its_lists_until_it_is_stopped(
    more: dict[str, Any], log: OwnedLog, shop: Settings
) -> None:
    record, worker = in_force(log, shop, wanted(OTHER, **more))
    lists = values_of(log)
    dealt = {who: arm_of(record.on_surface(), who) for who in lists}
    assert set(dealt.values()) == {"as-now", "challenger"}
    assert {who: (one.experiment or {}).get("arm") for who, one in lists.items()} == dealt
    versions = {
        arm: {lists[who].model_version for who in lists if dealt[who] == arm} for arm in ("as-now", "challenger")
    }
    assert len(versions["as-now"]) == len(versions["challenger"]) == 1
    assert versions["as-now"] != versions["challenger"]
    is_whole(log, shop, worker.state)
    _are_of_their_models(worker.state, shop, lists, dealt)
    stop(log, shop, "newer", 3_000)
    crash(log, shop)
    worker = run(log, shop)
    lists = values_of(log)
    assert {one.model_version for one in lists.values()} == versions["as-now"]
    assert len(worker.state.challengers) == 0
    is_whole(log, shop, worker.state)
    again = StreamState(shop, log.committer(shop.application).load_state)
    assert again.load()
    assert digest(again) == digest(worker.state)


def _are_of_their_models(
    state: StreamState, settings: Settings, lists: dict[str, RecommendationList], dealt: dict[str, str | None]
) -> None:
    """What is made anew, and what is asked for, is made by the model of the user's arm, and asked lists name it."""
    surfaces, ids = build_surfaces(state), state.engine.model.users.ids
    everybody = np.array([node for node, who in enumerate(ids) if who in dealt], np.int32)

    def made(surface: SurfaceLists) -> np.ndarray:
        return surface.relist(everybody, state.clock_ms, by=surface.ranked).outcome.published.item

    live = surfaces.lists_of("default")
    mine, its = made(live), made(surfaces.lists_of("default", NAME))
    live.rivals = {}
    theirs = made(live)
    is_its = np.array([dealt[ids[node]] == "challenger" for node in everybody.tolist()])
    assert (its[is_its] != theirs[is_its]).any()
    assert (mine == np.where(is_its[:, None], its, theirs)).all()
    answers, items = Answers(state, settings, ManualClock()), state.engine.model.items.ids
    for node, row in zip(everybody.tolist(), mine, strict=True):
        question = ListQuestion.model_validate({"context": {}, "user_id": ids[node], "k": 8})
        answer = msgspec.json.decode(answers.answer(question).body)
        assert answer["model_version"] == lists[ids[node]].model_version
        assert [one["item_id"] for one in answer["items"]] == [items[item] for item in row.tolist()]


def test_lists_of_another_surface_are_its_as_well(log: OwnedLog, shop: Settings) -> None:
    """An experiment on a surface beside the main one, whose lists have a topic of their own."""
    apply(log, shop, {"surface": "home", "publish": True})
    record, worker = in_force(log, shop, wanted(OTHER) | {"surface": "home"})
    lists = values_of(log, "recommendations.home")
    main = {one.model_version for one in values_of(log).values()}
    versions = {(arm_of(record.on_surface(), who), one.model_version) for who, one in lists.items()}
    assert len(versions) == 2
    assert {version for arm, version in versions if arm == "as-now"} == main
    assert {version for arm, version in versions if arm == "challenger"} & main == set()
    is_whole(log, shop, worker.state)


def test_what_other_workers_admitted_it_observes_too(log: OwnedLog, shop: Settings) -> None:
    created(log, shop, wanted(SAME))
    log.append(interactions(100))
    state = run(log, shop).state
    engine = state.engine
    engine.observe(engine.encode(["u1", "new"], ["i1", "i29"], [state.clock_ms] * 2, [1.0, 1.0], [{}, {}]))
    engine.model.forget_published(np.array([1], np.int32))
    live, its = pages_of(state)
    assert live == its
    assert engine.model.events == state.challengers[NAME].engine.model.events == 202


def test_a_rebuild_makes_it_anew_as_well(log: OwnedLog, shop: Settings) -> None:
    created(log, shop, wanted(OTHER))
    log.append(interactions(100))
    run(log, shop)
    start(log, shop, "newer", 2_000)
    log.append([interaction("u1", "i1", 0, event_id=f"e{n}", retract=True) for n in range(0, 150, 9)])
    log.append(interactions(200))
    run(log, shop)
    rebuild(log, shop)
    log.append(interactions(300))
    worker = run(log, shop)
    assert len({one.model_version for one in values_of(log).values()}) == 2
    is_whole(log, shop, worker.state)


def test_other_rules_leave_it_as_it_is_and_another_experiment_waits(log: OwnedLog, shop: Settings) -> None:
    created(log, shop, wanted(OTHER))
    log.append(interactions(100))
    before = run(log, shop).state.challengers[NAME].quality.events
    apply(log, shop, {"filter": "item.price < 28"})
    log.append(interactions(200))
    assert run(log, shop).state.challengers[NAME].quality.events == before + 100
    create(log, shop, read_experiment(wanted(SAME) | {"name": "second"}), 1_000)
    with pytest.raises(RulesRefused, match="'newer' runs on 'default'; stop it first"):
        shadow(log, shop, "second", 2_000)


def test_what_has_not_been_measured_is_not_shown(log: OwnedLog, settings: Settings) -> None:
    create(log, settings, read_experiment(wanted(SAME)), 1_000)
    with pytest.raises(RulesRefused, match="`freshet experiment shadow newer` first"):
        start(log, settings, "newer", 2_000)
    plain = {"name": "plain", "arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]}
    create(log, settings, read_experiment(plain), 1_000)
    with pytest.raises(RulesRefused, match="no arm of 'plain' has a model of its own"):
        shadow(log, settings, "plain", 2_000)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"hidden": 6}, "hidden = 6: it may be 4 to 256, a multiple of 4"),
        ({"window": 4}, "there is no such field"),
        ({"popularity_scales_ms": [0, 1, 1, 1, 1]}, "popularity_scales_ms = "),
    ],
)
def test_a_model_that_cannot_be_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(RulesRefused, match=message):
        read_experiment(wanted(model))
