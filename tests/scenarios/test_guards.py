"""A guard stops an arm: from feedback on the log to the lists of its users, whoever is killed between."""

from typing import Any

import msgspec
import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import EpochManifest, RecommendationList
from streamer.experiments.experiment_records import (
    ExperimentRecord,
    create,
    experiments,
    read_experiment,
    settle,
    start,
    stop,
    stop_arms,
)
from streamer.experiments.guards import GuardWatch, to_stop
from streamer.experiments.report import newest_results
from streamer.feedback.carrying import carry_embedded
from streamer.feedback.counting import FeedbackCounting
from streamer.feedback.feedback_metrics import FeedbackMetrics
from streamer.lists.assignment import arm_of
from streamer.lists.rules import SurfaceExperiment
from streamer.lists.rules_on_log import apply_rules, read_all_rules
from streamer.ops.audit import audit
from streamer.settings import Settings
from tests.scenarios.test_rules import read_rules, values_of
from tests.scenarios.test_worker import interaction, read_all, run
from tests.worlds.outcomes import purchases, results

USERS = 400
THREE = {
    "name": "variety",
    "arms": [{"name": "as-now", "share": 0.3}, {"name": "new", "share": 0.3}, {"name": "bad", "share": 0.3}],
    "guards": [{"metric": "return_rate"}, {"metric": "ctr", "by": 0.1}],
}
TWO = THREE | {"arms": [{"name": "as-now", "share": 0.5}, {"name": "bad", "share": 0.5}]}
RATES = {"as-now": 0.8, "new": 0.8, "bad": 0.05}


def everybody(settings: Settings, hour: int) -> list[NewRecord]:
    """An interaction of each user, as long after those of the hour before as it says."""
    events = [(f"u{n}", f"i{n % 30}", hour * 3_600_000 + n * 1_000) for n in range(USERS)]
    return [interaction(who, what, at, event_id=f"{who}/{hour}") for who, what, at in events]


def feedback(lists: dict[str, RecommendationList], seed: int) -> list[NewRecord]:
    """Each list is shown, and its first item is clicked by so many of an arm's users."""
    random, found = np.random.default_rng(seed), []
    for who, one in lists.items():
        told: dict[str, Any] = {"list_id": one.list_id, "item_id": one.items[0].item_id, "user_id": who}
        told |= {"timestamp": one.as_of.timestamp + 1_000, "event": "impression"}
        found.append(NewRecord("feedback", who.encode(), msgspec.json.encode(told)))
        if one.experiment is not None and random.random() < RATES[one.experiment["arm"]]:
            found.append(NewRecord("feedback", who.encode(), msgspec.json.encode(told | {"event": "click"})))
    return found


def count(log: OwnedLog, settings: Settings) -> None:
    """As `freshet run feedback` does."""
    watch = GuardWatch(log, settings)
    with FeedbackCounting(log, settings, FeedbackMetrics(), look=watch.look) as counting:
        carry_embedded(log, counting, lambda: False, exit_at_end=True)


def begun(log: OwnedLog, settings: Settings, value: dict[str, Any]) -> ExperimentRecord:
    create(log, settings, read_experiment(value), 1_000)
    return start(log, settings, value["name"], 2_000)


def ruled(log: OwnedLog, settings: Settings) -> SurfaceExperiment | None:
    """The experiment that the rules of the surface name."""
    return read_all_rules(log, settings)[0].records["default"].now.rules.experiment


def stops_on(log: OwnedLog) -> list[str]:
    return [(one.key or b"").decode() for one in read_all(log, "freshet.experiments") if b"/" in (one.key or b"")]


def test_an_arm_that_harms_is_stopped_and_its_users_get_the_lists_of_everybody(
    log: OwnedLog, settings: Settings
) -> None:
    log.append(everybody(settings, 0))
    record = begun(log, settings, THREE)
    run(log, settings)
    dealt = {who: arm_of(record.on_surface(), who) for who in values_of(log)}
    log.append(feedback(values_of(log), 1))
    count(log, settings)
    now = experiments(log, settings)["variety"]
    assert (now.state, [(one.arm, one.metric) for one in now.stops]) == ("running", [("bad", "ctr")])
    assert now.stops[0].high < 0
    rules = ruled(log, settings)
    assert rules is not None
    assert rules.stopped == ("bad",)
    for _ in range(2):  # whoever counts again decides nothing again
        count(log, settings)
    assert stops_on(log) == ["variety/bad"]
    log.append(everybody(settings, 1))
    run(log, settings)
    told = {who: None if one.experiment is None else one.experiment["arm"] for who, one in values_of(log).items()}
    assert told == {who: None if arm == "bad" else arm for who, arm in dealt.items()}
    assert set(told.values()) >= {"as-now", "new", None}
    found = audit(log, settings)
    assert (found.lost, found.doubled, found.differing) == (0, 0, 0)
    manifests = [msgspec.json.decode(one.value or b"", type=EpochManifest) for one in read_all(log, "freshet.epochs")]
    texts = [text["rules"]["experiment"] for one in manifests if one.rules and (text := one.rules["default"])]
    assert [text.get("stopped", []) for text in texts] == [[], ["bad"]]


def test_where_no_other_arm_is_left_the_experiment_is_stopped(log: OwnedLog, settings: Settings) -> None:
    log.append(everybody(settings, 0))
    begun(log, settings, TWO)
    run(log, settings)
    log.append(feedback(values_of(log), 2))
    count(log, settings)
    now = experiments(log, settings)["variety"]
    assert (now.state, now.stopped_ms) == ("stopped", now.stops[0].at_ms)
    assert ruled(log, settings) is None
    assert stop(log, settings, "variety", 5_000).state == "stopped"
    create(log, settings, read_experiment(TWO | {"name": "next"}), 6_000)
    assert start(log, settings, "next", 7_000).state == "running"
    count(log, settings)  # the former one is over: nothing is done to the one that runs
    rules = ruled(log, settings)
    assert rules is not None
    assert (rules.name, rules.stopped) == ("next", ())


def harming(settings: Settings, log: OwnedLog, record: ExperimentRecord) -> None:
    """Results by which the arm `bad` spends less."""
    random = np.random.default_rng(3)
    for arm, lift in (("as-now", 0.0), ("bad", -0.7)):
        spent, ones = purchases(random, 20_000, lift), np.ones(20_000)
        one = results(f"{record.name}:{arm}", spent, ones, np.zeros(20_000), np.zeros(20_000), "revenue_per_user")
        key = f"business/default/{one.arm}/{one.metric}".encode()
        log.append([NewRecord("quality", key, msgspec.json.encode(one))])


@pytest.mark.parametrize("killed", ["before", "between", "after"])
def test_a_kill_between_what_is_written_down_and_the_rules_changes_nothing(
    killed: str, log: OwnedLog, settings: Settings
) -> None:
    record = begun(log, settings, TWO | {"guards": [{"metric": "revenue_per_user"}]})
    harming(settings, log, record)
    told = newest_results(log, settings)
    stops = list(to_stop(record, told, 3_000))
    assert [one.arm for one in stops] == ["bad"]
    if killed != "before":
        stop_arms(log, settings, stops)  # (1)
    if killed == "after":
        settle(log, settings, [*experiments(log, settings).values()], 3_000)  # (2)
    GuardWatch(log, settings).look(lambda: [] if killed == "between" else told)  # the numbers may have moved meanwhile
    assert experiments(log, settings)["variety"].state == "stopped"
    assert ruled(log, settings) is None
    assert stops_on(log) == ["variety/bad"]


def test_what_is_not_over_is_left_alone(log: OwnedLog, settings: Settings) -> None:
    """A stop by hand takes the rules first: whoever looks then puts nothing back."""
    record = begun(log, settings, THREE)
    apply_rules(log, settings, [read_rules({"k": 7})], 2_500)
    GuardWatch(log, settings).look(list)
    rules = ruled(log, settings)
    assert rules == record.on_surface()
    stop(log, settings, "variety", 3_000)
    log.append([NewRecord("freshet.experiments", b"variety", record.model_dump_json().encode(), partition=0)])
    GuardWatch(log, settings).look(list)
    assert ruled(log, settings) is None


def test_stops_of_an_experiment_of_the_same_name_before_count_nothing(log: OwnedLog, settings: Settings) -> None:
    record = begun(log, settings, TWO | {"guards": [{"metric": "revenue_per_user"}]})
    harming(settings, log, record)
    GuardWatch(log, settings).look(lambda: newest_results(log, settings))
    log.append([NewRecord("freshet.experiments", b"variety", None, partition=0)])
    create(log, settings, read_experiment(TWO), 8_000)
    again = start(log, settings, "variety", 9_000)
    assert (again.state, experiments(log, settings)["variety"].stops) == ("running", ())
