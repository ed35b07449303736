"""Experiments and figures that are nearly right: one line that says what is wrong, or what is missing; never nan."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from consumers.schemas import Business
from streamer.cli.experiment_page import experiment_page
from streamer.errors import RulesRefused
from streamer.experiments.experiment_records import ExperimentRecord, read_experiment
from streamer.experiments.guards import to_stop
from streamer.experiments.in_words import as_json, in_words, verdicts
from streamer.experiments.intervals import chi_squared_tail
from streamer.experiments.report import report_of
from streamer.monitoring.business_metric import business_metric
from tests.worlds.outcomes import results

ARMS: list[dict[str, Any]] = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
NOTHING = np.zeros(100)
ONES = np.ones(100)
SOME = np.arange(100) % 7 + 1.0


def challenger(**model: Any) -> dict[str, Any]:
    return {"arms": [ARMS[0], ARMS[1] | {"model": model}]}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("shares above 1", {"arms": [ARMS[0], ARMS[1] | {"share": 0.6}]}, "arms: shares and holdback are 1.1 together"),
    ("holdback above 1", {"holdback": 0.1}, "arms: shares and holdback are 1.1 together"),
    ("no share", {"arms": [ARMS[0], {"name": "b", "share": 0}]}, "arms.1.share: "),
    ("nan share", {"arms": [ARMS[0], {"name": "b", "share": math.nan}]}, "arms.1.share: "),
    ("share of text", {"arms": [ARMS[0], {"name": "b", "share": "half"}]}, "arms.1.share: "),
    ("an arm twice", {"arms": [ARMS[0], ARMS[0]]}, "'a' is the name of several arms"),
    ("an arm alone", {"arms": ARMS[:1]}, "arms: "),
    ("arms that are none", {"arms": "a, b"}, "arms: it is no array"),
    ("an arm called holdback", {"arms": [ARMS[0], {"name": "holdback", "share": 0.5}]}, "is the name of those who are"),
    ("a name with a slash", {"name": "x/y"}, "name: write lower-case letters"),
    ("a long salt", {"salt": "s" * 65}, "salt: "),
    ("a metric that is none", {"guards": [{"metric": "clicks"}]}, "guards.0.metric: input should be 'ctr', "),
    ("a guard of nan", {"guards": [{"metric": "ctr", "by": math.nan}]}, "guards.0.by: "),
    ("a goal that is none", {"goal": "profit"}, "goal: input should be 'ctr', "),
    ("no effect", {"effect": 0}, "effect: "),
    ("nan effect", {"effect": math.nan}, "effect: "),
    ("a unit of items", {"unit": "item.city"}, "unit: write a field of users"),
    ("an unknown field", {"audience": "all"}, "audience: there is no such field"),
    ("a wrong key", {"arm": []}, "arm: there is no such field; did you mean 'arms'?"),
    (
        "a wrong key inside",
        challenger(learning_rates=0.1),
        "learning_rates: there is no such field; did you mean 'learning_rate'?",
    ),
    ("another dimension", challenger(embedding_size=32), "arms.1.model.embedding_size: there is no such field"),
    ("nothing hidden", challenger(hidden=0), "arms.1.model"),
    ("negative hidden", challenger(hidden=-8), "arms.1.model"),
    ("a rate of nan", challenger(learning_rate=math.nan), "arms.1.model.learning_rate: "),
    ("a negative rate", challenger(learning_rate=-1.0), "arms.1.model"),
    ("four scales", challenger(popularity_scales_ms=[1, 2, 3, 4]), "arms.1.model.popularity_scales_ms"),
    ("a scale of 0", challenger(popularity_scales_ms=[0, 1, 2, 3, 4]), "arms.1.model"),
    ("a part that is none", challenger(without=["luck"]), "arms.1.model.without.0: "),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_nearly_an_experiment_is_refused_in_a_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RulesRefused) as refused:
        read_experiment({"name": "x", "arms": ARMS} | change)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [None, 5, [], "x", {}])
def test_what_is_no_experiment_is_refused_in_a_line(value: Any) -> None:
    with pytest.raises(RulesRefused) as refused:
        read_experiment(value)
    assert "\n" not in str(refused.value)


def test_without_a_salt_it_is_the_name() -> None:
    assert read_experiment({"name": "x", "arms": ARMS, "salt": ""}).on_surface().salt == "x"


def both(metric: str, a: list[Any], b: list[Any]) -> list[Business]:
    """The results of both arms, each x, y and what was before: z, w."""
    return [results(f"x:{name}", one[0], one[1], one[2], one[3], metric) for name, one in (("a", a), ("b", b))]


ONE_USER = [np.ones(1), np.ones(1), np.zeros(1), np.zeros(1)]
TAKES_30 = "that takes outcomes of 30 users in each arm."
ALIKE = "is the same for all users of each arm, so nothing says how much it is by chance."
CASES: list[tuple[str, list[Business], str]] = [
    ("no impressions", [], TAKES_30),
    ("one user", both("ctr", ONE_USER, ONE_USER), TAKES_30),
    ("one user against many", both("ctr", [SOME, 2 * SOME, NOTHING, NOTHING], ONE_USER), "users are not dealt as"),
    ("an arm without users", both("ctr", ONE_USER, [SOME, 2 * SOME, NOTHING, NOTHING])[1:], "users are not dealt as"),
    ("all clicked", both("ctr", [SOME, SOME, NOTHING, NOTHING], [SOME, SOME, NOTHING, NOTHING]), ALIKE),
    ("all clicked a third", both("ctr", *[[SOME, 3 * SOME, NOTHING, NOTHING]] * 2), ALIKE),
    ("a third against two thirds", both("ctr", *[[n * ONES, 3 * ONES, NOTHING, NOTHING] for n in (1, 2)]), ALIKE),
    ("a seventh against a third", both("ctr", *[[SOME, n * SOME, NOTHING, NOTHING] for n in (7, 3)]), ALIKE),
    ("nobody clicked", both("ctr", *[[NOTHING, SOME, NOTHING, NOTHING]] * 2), ALIKE),
    ("before is all there is", both("ctr", *[[SOME % 3, SOME, SOME % 3, SOME]] * 2), "No difference between b and a"),
    ("the same before for all", both("ctr", *[[SOME % 3, SOME, ONES, ONES]] * 2), "No difference between b and a"),
    ("nothing before", both("ctr", *[[SOME % 3, SOME, NOTHING, SOME]] * 2), "No difference between b and a"),
    ("before in one arm", both("ctr", [SOME % 3, SOME, SOME % 2, SOME], [SOME % 3, SOME, NOTHING, NOTHING]), "No diff"),
    ("a huge value", both("ctr", [SOME * 1e9, SOME, SOME * 1e9, SOME], [SOME % 3, SOME, NOTHING, SOME]), "b has less"),
    ("negative", both("ctr", [-(SOME % 3), SOME, SOME % 2, SOME], [SOME % 3, SOME, SOME % 2, SOME]), "b has more"),
]  # fmt: skip


def numbers(value: Any) -> Iterator[float]:
    """All numbers in what JSON holds."""
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize(("told", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_figures_of_which_nothing_follows_are_said_in_a_sentence(told: list[Business], said: str) -> None:
    record = read_experiment({"name": "x", "arms": ARMS, "guards": [{"metric": "ctr"}]})
    report = report_of(record, told)
    [verdict] = verdicts(report)
    assert said in verdict
    as_text = json.dumps(as_json(report), allow_nan=False)  # raises ValueError where there is nan or inf
    assert all(map(math.isfinite, numbers(json.loads(as_text))))
    registry = CollectorRegistry()
    registry.register(type("Told", (), {"collect": lambda self: [business_metric(told)]})())
    for words in ("\n".join(in_words(report)), experiment_page(report), generate_latest(registry).decode()):
        assert not {"nan", "inf", "+inf", "-inf"} & {word.strip(",;:[]()").lower() for word in words.split()}
    stopped = {stop.arm for stop in to_stop(record, told, 1)}
    assert stopped == ({"b"} if said == "b has less" else set())


@pytest.mark.parametrize("metric", ["cvr", "return_rate"])
def test_a_share_of_nothing_says_of_what(metric: str) -> None:
    """Users are there, by what is shown to them; nobody clicked, or bought."""
    record = read_experiment({"name": "x", "arms": ARMS, "goal": metric})
    none = Business(metric, "default", "x:a", None, 0.0, 0.0, 100, 0, (0.0,) * 3, (0.0,) * 9)
    some = results("x:b", SOME % 2, SOME, NOTHING, NOTHING, metric)
    [said] = verdicts(report_of(record, [none, some]))
    assert said.startswith("Nothing can be said of b yet: a has nothing of which ")


def test_a_share_that_is_next_to_nothing_is_an_alarm_and_no_number_that_is_none() -> None:
    arms = [{"name": "a", "share": 0.3}, {"name": "b", "share": 0.3}, {"name": "c", "share": 1e-315}]
    record: ExperimentRecord = read_experiment({"name": "x", "arms": arms, "holdback": 0.3})
    told = [results(f"x:{name}", SOME, SOME, NOTHING, NOTHING) for name in ("a", "b", "c", "holdback")]
    report = report_of(record, told)
    assert report.mismatch_p == 0.0
    assert report.is_mismatched
    assert [chi_squared_tail(math.inf, n) for n in (1, 2, 3, 6)] == [0.0] * 4
