"""Rules in a worker: they hold from an epoch on, stand in its manifest, and come to the same again."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import EpochManifest, RecommendationList
from streamer.lists.rule_records import read_rules
from streamer.lists.rules_on_log import apply_rules
from streamer.ops.audit import audit, digest
from streamer.ops.checkpoint_inspection import verify
from streamer.settings import Settings
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import interaction, lists_of, read_all, run
from tests.worlds import checkerboard

ITEMS, USERS = 30, 9
RARE = {"checkpoint_interval_ms": 10**9, "max_epoch_events": 40}
RULES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a filter": {"filter": "item.price < 20"},
    "a filter by user": {"filter": "item.price < 20 || user.plan == 'gold'"},
    "a filter by time": {"filter": "item.seen_at < now - duration('1h')"},
    "boosts": {"boosts": [{"if": "item.price >= 25", "factor": 50}]},
    "pins": {"pins": [{"item_id": "i7", "place": 2}, {"item_id": "gone", "place": 1}]},
    "quotas": {"quotas": [{"per": "item.kind", "max": 2}]},
    "two quotas": {"quotas": [{"per": "item.kind", "max": 3}, {"per": "item.categories", "max": 4}]},
    "seen": {"seen": "exclude"},
    "seen lately": {"seen": "after 1h", "filter": "item.price < 20"},
    "diversity": {"diversity": 0.5},
    "exploration": {"explore": 0.5},
    "debias": {"debias": 0.5},
    "fewer places": {"k": 3},
    "a fallback": {"fallback": ["new", "popular"], "filter": "item.price < 20"},
    "a fallback by cohort": {"fallback": ["similar-items", "cohort", "popular"], "explore": 0.2, "seen": "exclude"},
    "all": {
        "filter": "item.price < 25", "boosts": [{"if": "item.kind == 'k1'", "factor": 3}], "seen": "exclude", "k": 6,
        "pins": [{"item_id": "i3", "place": 1, "if": "user.plan == 'gold'"}], "diversity": 0.2, "explore": 0.3,
        "quotas": [{"per": "item.kind", "max": 3}], "debias": 0.1,
    },
}  # fmt: skip


def item(n: int, **more: Any) -> NewRecord:
    value = {"item_id": f"i{n}", "price": n, "kind": f"k{n % 4}", "categories": [f"c{n % 3}"], "seen_at": 0} | more
    return NewRecord("items", f"i{n}".encode(), json.dumps(value).encode())


def user(n: int) -> NewRecord:
    return NewRecord(
        "users", f"u{n}".encode(), json.dumps({"user_id": f"u{n}", "plan": "gold" if n % 2 else "free"}).encode()
    )


def interactions(first: int, count: int = 100) -> list[NewRecord]:
    events = checkerboard(events=first + count, users=USERS, items=ITEMS)[first:]
    return [interaction(who, what, t, event_id=f"e{n}") for n, (who, what, t) in enumerate(events, first)]


def apply(log: OwnedLog, settings: Settings, *rules: dict[str, Any]) -> list[str]:
    return [one.version for one in apply_rules(log, settings, [read_rules(one) for one in rules], 1_000)]


def values_of(log: OwnedLog, topic: str = "recommendations") -> dict[str, RecommendationList]:
    """The newest list of each user, as it was published."""
    newest = {}
    for record in read_all(log, topic):
        who = (record.key or b"").decode()
        if record.value is None:
            newest.pop(who, None)
        else:
            newest[who] = msgspec.json.decode(record.value, type=RecommendationList)
    return newest


def crash(log: OwnedLog, settings: Settings) -> None:
    """Takes all there is, and leaves no checkpoint of it."""
    worker = Worker.open(log, settings)
    while worker.step() or not worker._reading.caught_up():
        pass
    worker.close()


@pytest.mark.parametrize("name", RULES)
def test_a_change_of_rules_is_exact_in_recovery_rebuild_and_audit(name: str, log: OwnedLog, settings: Settings) -> None:
    mine = settings.model_copy(update=RARE | {"k": 8})
    log.append([item(n) for n in range(ITEMS)] + [user(n) for n in range(USERS)])
    log.append(interactions(0))
    run(log, mine)
    apply(log, mine, RULES[name])
    log.append(interactions(100))
    crash(log, mine)
    log.append(interactions(200))
    log.append(
        [item(5, price=99), NewRecord("items", b"i6", None), interaction("u1", "i2", 0, event_id="e100", retract=True)]
    )
    crash(log, mine)  # takes the epochs of the rules again first
    apply(log, mine, {"filter": "item.price > 3"})
    log.append(interactions(300))
    worker = run(log, mine)
    expected = digest(worker.state)
    found = audit(log, mine)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": expected}
    texts = [
        manifest.rules["default"]["rules"]
        for record in read_all(log, "freshet.epochs")
        if (manifest := msgspec.json.decode(record.value or b"", type=EpochManifest)).rules
    ]
    assert texts == [{"surface": "default"} | RULES[name], {"surface": "default", "filter": "item.price > 3"}]

    log.committer("freshet").discard_state()
    assert digest(run(log, mine).state) == expected  # from nothing but the log
    rebuild(log, mine)
    found = audit(log, mine)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": digest(run(log, mine).state)}


def test_rules_that_are_there_hold_from_the_first_list_on(log: OwnedLog, settings: Settings) -> None:
    log.append([item(n) for n in range(ITEMS)])
    [version] = apply(log, settings, {"filter": "item.price < 10", "quotas": [{"per": "item.kind", "max": 1}], "k": 9})
    log.append(interactions(0, 200))
    run(log, settings)
    lists = values_of(log)
    assert len(lists) == USERS
    for value in lists.values():
        numbers = [int(one.item_id[1:]) for one in value.items]
        assert value.rules == version
        assert len(numbers) == len({n % 4 for n in numbers}) == 4
        assert max(numbers) < 10


def test_a_filter_takes_effect_on_the_lists_that_are_out(log: OwnedLog, settings: Settings) -> None:
    log.append([item(n) for n in range(ITEMS)])
    log.append(interactions(0, 200))
    run(log, settings)
    before = lists_of(log)
    assert any("i25" in items for items in before.values())
    apply(log, settings, {"filter": "item.price != 25"})
    run(log, settings)
    assert {len(items) for items in lists_of(log).values()} == {20}
    assert not any("i25" in items for items in lists_of(log).values())
    log.append([item(24, price=25)])  # and when an item changes
    run(log, settings)
    assert any("i24" in items for items in before.values())
    assert not any("i24" in items for items in lists_of(log).values())
    apply(log, settings, {})
    run(log, settings)
    assert any("i25" in items for items in lists_of(log).values())
    assert all(value.rules is None for value in values_of(log).values())


def test_published_lists_are_kept_unless_they_are_not_to_be(log: OwnedLog, settings: Settings) -> None:
    without = settings.model_copy(update={"keep_lists": False})
    log.append([item(n) for n in range(ITEMS)] + interactions(0, 50))
    apply(log, settings, {"surface": "home", "publish": True, "k": 3})
    run(log, settings)
    published = [r for topic in ("recommendations", "recommendations.home") for r in read_all(log, topic)]
    kept = read_all(log, "freshet.lists")
    assert sorted((r.key, r.value) for r in kept) == sorted((r.key, r.value) for r in published if r.value is not None)
    assert {json.loads(r.value or b"")["surface"] for r in kept} == {"default", "home"}
    log.append(interactions(50, 50))
    run(log, without)
    assert len(read_all(log, "freshet.lists")) == len(kept)


def test_lists_that_are_not_to_be_published_are_withdrawn(log: OwnedLog, settings: Settings) -> None:
    log.append(interactions(0, 100))
    run(log, settings)
    apply(log, settings, {"publish": False})
    log.append(interactions(100, 50))
    run(log, settings)
    assert lists_of(log) == {}
    apply(log, settings, {})
    log.append(interactions(150, 50))
    worker = run(log, settings)
    assert len(lists_of(log)) > 3
    assert audit(log, settings).digests == {"": digest(worker.state)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"default", b"{oops"),
        (b"default", b'{"surface": "default", "filter": "item.price <"}'),
        (b"default", b'{"surface": "home"}'),
        (b"default", b'["x"]'),
    ],
)
def test_the_rules_before_a_bad_record_stay_in_force(
    log: OwnedLog, settings: Settings, caplog: pytest.LogCaptureFixture, key: bytes, value: bytes
) -> None:
    apply(log, settings, {"filter": "item.price < 10"})
    log.append([item(n) for n in range(ITEMS)])
    log.append(interactions(0, 50))
    run(log, settings)
    log.append([NewRecord(settings.rules_topic, key, value)])
    log.append(interactions(50, 100))
    for _ in range(2):
        worker = run(log, settings)
        assert worker.state.rules["default"]["rules"]["filter"] == "item.price < 10"
        assert "freshet.rules[0] offset 1: no rules, those before stay in force" in caplog.text
    assert all(int(one[1:]) < 10 for items in lists_of(log).values() for one in items)
    log.append([NewRecord(settings.rules_topic, b"default", None)])
    assert run(log, settings).state.rules == {}


def test_without_rules_lists_have_the_bytes_of_a_log_without_the_topic(log: OwnedLog, settings: Settings) -> None:
    log.append(interactions(0, 100))
    apply(log, settings, {})
    run(log, settings)
    assert all(b'"rules"' not in (record.value or b"") for record in read_all(log, "recommendations"))


HOME = {
    "surface": "home", "publish": True, "filter": "item.price < 15", "quotas": [{"per": "item.kind", "max": 2}], "k": 6,
    "explore": 0.3,
}  # fmt: skip


def test_a_surface_is_published_beside_the_main_one(log: OwnedLog, settings: Settings) -> None:
    mine = settings.model_copy(update=RARE | {"k": 8})
    log.append([item(n) for n in range(ITEMS)])
    log.append(interactions(0))
    run(log, mine)
    main = lists_of(log)
    [version] = apply(log, mine, HOME)
    run(log, mine)  # everybody who has a list has one there too
    home = values_of(log, "recommendations.home")
    assert lists_of(log).keys() == main.keys()
    assert home.keys() == main.keys()
    for who, value in home.items():
        numbers = [int(one.item_id[1:]) for one in value.items]
        assert (value.surface, value.rules, value.user_id) == ("home", version, who)
        assert value.list_id.endswith(f"-{who}-home")
        assert numbers
        assert max(numbers) < 15
        assert all(sum(n % 4 == kind for n in numbers) <= 2 for kind in range(4))
    log.append(interactions(100))
    crash(log, mine)
    log.append([item(4, price=50), item(5, hidden=True), NewRecord("items", b"i6", None)])
    log.append([NewRecord("users", b"u3", None), interaction("u1", "i2", 0, event_id="e100", retract=True)])
    log.append(interactions(200, 50))
    worker = run(log, mine)
    home = values_of(log, "recommendations.home")
    assert {"u1", "u2", "u4"} <= home.keys() == lists_of(log).keys()
    assert not {"i4", "i5", "i6"} & {one.item_id for value in home.values() for one in value.items}
    assert {len(value.list_id.split("-")) for value in home.values()} <= {3, 5}
    expected = digest(worker.state)
    found = audit(log, mine)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": expected}
    assert verify(log, mine)[1] == []
    log.committer("freshet").discard_state()
    assert digest(run(log, mine).state) == expected
    rebuild(log, mine)
    found = audit(log, mine)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    apply(log, mine, {"surface": "home", "filter": "item.price < 15"})
    worker = run(log, mine)
    assert values_of(log, "recommendations.home") == {}
    assert lists_of(log)
    assert audit(log, mine).digests == {"": digest(worker.state)}


STEP = st.one_of(
    st.tuples(st.just("events"), st.integers(1, 40)),
    st.tuples(st.just("item"), st.integers(0, ITEMS - 1), st.integers(0, 40), st.booleans()),
    st.tuples(st.just("rules"), st.integers(5, 35), st.sampled_from(["exclude", "allow", None]), st.booleans()),
)


@profile(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, min_size=2, max_size=12))
def test_no_list_breaks_a_promise_whatever_comes_in_which_order(
    steps: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Interactions, items that change or are hidden, rules that change: each list as it is made, and what is out."""
    from streamer.runtime.topics import topic_specs

    settings = Settings(k=8)
    log = OwnedLog(tmp_path_factory.mktemp("log"))
    log.create(topic_specs(settings, partitions=1))
    log.append([item(n) for n in range(ITEMS)])
    price, hidden, most, seen, taken = dict(enumerate(range(ITEMS))), set[int](), 99, False, 0
    had: dict[str, set[str]] = {}
    events = checkerboard(events=1_000, users=USERS, items=ITEMS)
    apply(log, settings, {"surface": "home", "publish": True, "filter": "item.price < 20", "seen": "exclude", "k": 5})
    worker = Worker.open(log, settings)
    worker._reading.ends_with_log = True
    for kind, *what in steps:
        if kind == "events":
            some = events[taken : taken + what[0]]
            log.append([interaction(*event) for event in some])
            taken += what[0]
            for who, which, _ in some:
                had.setdefault(who, set()).add(which)
        elif kind == "item":
            n, price[what[0]] = what[0], what[1]
            (hidden.add if what[2] else hidden.discard)(n)
            log.append([item(n, price=what[1], hidden=what[2])])
        else:
            most, seen = what[0], what[1] == "exclude"
            more = {} if what[1] is None else {"seen": what[1]}
            more |= {"boosts": [{"if": "item.price > 5", "factor": 9}]} if what[2] else {}
            apply(log, settings, {"filter": f"item.price < {most}", **more, "pins": [{"item_id": "i4", "place": 1}]})
        while worker.step() or not worker._reading.caught_up():
            pass
        for who, listed in lists_of(log).items():
            numbers = [int(one[1:]) for one in listed]
            assert not hidden & set(numbers)
            assert all(price[n] < most for n in numbers)
            assert not (seen and had[who] & set(listed))
            assert len(listed) == len(set(listed))
            may = [n for n in range(ITEMS) if price[n] < most and n not in hidden]
            if seen:
                may = [n for n in may if f"i{n}" not in had[who]]
            if kind == "rules":  # everybody is listed anew; what passes again later comes with the next list
                assert len(listed) == min(len(may), 8)
            assert 4 not in may or most == 99 or listed[0] == "i4"
        for who, value in values_of(log, "recommendations.home").items():
            numbers = [int(one.item_id[1:]) for one in value.items]
            assert not hidden & set(numbers)
            assert all(price[n] < 20 for n in numbers)
            assert not had[who] & {one.item_id for one in value.items}
    worker.close()
    log.close()
