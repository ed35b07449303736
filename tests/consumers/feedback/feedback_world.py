"""Small logs of lists and feedback, and what a plain computation over the whole of them counts.

The computation shares no code with the join: it holds everything in memory and looks at it in one go.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from consumers.partitioner import partition_of
from consumers.records import Record, TopicPartition

LISTS, FEEDBACK, USERS = "freshet.lists", "feedback", "users"
KINDS = {
    "impression": "impression", "click": "click", "purchase": "conversion", "dwell": "engagement", "return": "return",
}  # fmt: skip
SOURCES = ("repeat", "popular", "transition")
GROUPS = {"ann": "left", "bob": "left", "cat": "up\nright"}
"""Who are dealt together in arm C; dan is dealt alone."""
Log = dict[TopicPartition, list[Record]]
Cells = dict[tuple[str, ...], float]


def make_log(seed: int, lists: int, events: int, partitions: int = 2, late_ms: int = 900, step_ms: int = 60) -> Log:
    """Lists of a few users, and feedback that comes up to `late_ms` late, twice at times, and quotes what is not there."""
    random, made, records = Random(seed), list[dict[str, Any]](), list[tuple[str, str, dict[str, Any]]]()
    users = ["ann", "bob", "cat", "dan", ""]
    order = ["list"] * lists + ["feedback"] * events
    random.shuffle(order)
    now, said = 1_700_000_000_000, list[tuple[str, dict[str, Any]]]()
    waiting = list[tuple[str, str, dict[str, Any]]]()
    for n, what in enumerate(["list", *order]):
        now += random.randint(0, 2 * step_ms)
        if what == "list":
            one = _a_list(random, n, random.choice(users), now, 3 * n > len(order))
            made.append(one)
            entry = (LISTS, one["user_id"] or "", one)
            (waiting if random.random() < 0.2 else records).append(entry)  # it comes after its feedback
            continue
        if said and random.random() < 0.15:
            records.append((FEEDBACK, *random.choice(said[-5:])))  # sent again
            continue
        quoted = random.choice(made[-12:])
        user = quoted["user_id"] or ""
        told = _feedback(random, quoted, now - random.randint(0, late_ms))
        if random.random() < 0.05:
            told["list_id"] = "0-unknown"
        said.append((user, told))
        records.append((FEEDBACK, user, told))
    return in_partitions(records + waiting, partitions)


def in_partitions(entries: Iterable[tuple[str, str, Mapping[str, Any]]], partitions: int) -> Log:
    """Records of (topic, key, value), each at the partition of its key."""
    found: Log = {TopicPartition(topic, p): [] for topic in (LISTS, FEEDBACK) for p in range(partitions)}
    for topic, key, value in entries:
        at = TopicPartition(topic, partition_of(key.encode(), partitions))
        body, far = json.dumps(value).encode(), 4_000_000_000_000
        found[at].append(Record(*at, len(found[at]), key.encode(), body, (), far))
    return found


def _a_list(random: Random, n: int, user: str, now: int, compared: bool) -> dict[str, Any]:
    items = random.sample("abcdefgh", random.randint(1, 5))
    rows = [
        {"item_id": i, "score": 1.0, "source": s, "reason": _reason(s)} for i in items for s in [random.choice(SOURCES)]
    ]
    told: dict[str, Any] = {
        "list_id": f"0-{n}", "user_id": user or None, "surface": random.choice(("home", "basket")), "items": rows,
        "as_of": {"timestamp": now, "positions": {}}, "model_version": "m",
    }  # fmt: skip
    if compared and random.random() < 0.6:  # before that there is a past
        told["experiment"] = {"name": "x", "arm": random.choice("ABC")}
        if told["experiment"]["arm"] == "C":  # users of it are dealt in groups, but for one of them
            told["experiment"] |= {"group": GROUPS[user]} if user in GROUPS else {}
    return told


def _reason(source: str) -> str:
    return {"repeat": "chosen before", "popular": "popular now", "transition": "often chosen right after tea 7"}[source]


def _feedback(random: Random, quoted: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
    event = random.choice(
        ("impression", "impression", "click", "click", "purchase", "purchase", "dwell", "return", "seen")
    )
    item = random.choice([row["item_id"] for row in quoted["items"]] + ["zz"] * (random.random() < 0.1))
    told: dict[str, Any] = {"list_id": quoted["list_id"], "event": event, "timestamp": at_ms, "item_id": item}
    if event in ("impression", "purchase", "dwell") and random.random() < 0.3:
        del told["item_id"]
    if event in ("purchase", "dwell", "return"):
        told["value"] = random.choice((1, 2.5, 19.99))
    if random.random() < 0.5:
        told["event_id"] = f"e{random.getrandbits(60)}"
    return told


def counted(log: Log, how: str, window_ms: int, width_ms: int) -> Cells:
    """Totals by (surface, arm, count, dimension, label); by window the dimension is "window"."""
    lists = {
        (record.key.decode(), told["list_id"]): told
        for at, records in log.items() if at.topic == LISTS
        for record in records if record.key is not None
        for told in [json.loads(record.value or b"")]
    }  # fmt: skip
    once, shown, clicked = set[Any](), dict[Any, int](), dict[Any, int]()
    touches, purchases, rest = defaultdict[Any, list[Any]](list), list[Any](), list[Any]()
    for at in sorted(log):
        for record in log[at] if at.topic == FEEDBACK else ():
            user, told = (record.key or b"").decode(), json.loads(record.value or b"")
            list_id, item, event, when = told["list_id"], told.get("item_id"), told["event"], told["timestamp"]
            identity = (user, told["event_id"]) if "event_id" in told else (user, json.dumps(told, sort_keys=True))
            quoted = lists.get((user, list_id))
            if identity in once or quoted is None or event not in KINDS:
                continue
            once.add(identity)
            items = [row["item_id"] for row in quoted["items"]]
            if item is not None and item not in items:
                continue
            visit = user or f"visit of {list_id}"
            in_time = when - quoted["as_of"]["timestamp"] <= window_ms
            place = 0 if item is None else items.index(item) + 1
            if event in ("impression", "click") and in_time:
                for n in [place] if place else range(1, len(items) + 1):
                    shown.setdefault((user, list_id, n), when)
                    if event == "click":
                        clicked.setdefault((user, list_id, n), when)
                if event == "click" and how != "quoted":
                    touches[visit, item].append((when, list_id, place))
            elif event == "purchase":
                purchases.append((user, visit, list_id, item, place, when, told["value"]))
            elif in_time:
                rest.append((user, list_id, place, event, when, told["value"]))
    cells, sums = defaultdict[tuple[str, ...], float](float), defaultdict[Any, float](float)
    first, days = dict[Any, int](), defaultdict[Any, float](float)
    for (user, _), told in lists.items():  # in the order of the log
        if user and "group" not in told.get("experiment", {"group": "none"}):
            began = told["as_of"]["timestamp"] // width_ms * width_ms
            first.setdefault((told["surface"], f"x:{told['experiment']['arm']}", user), began)

    def add(user: str, list_id: str, place: int, count: str, when: int, amount: float) -> None:
        told = lists[user, list_id]
        arm = f"{told['experiment']['name']}:{told['experiment']['arm']}" if "experiment" in told else "none"
        key = (told["surface"], arm, count)
        cells[*key, "", ""] += amount
        cells[*key, "window", str(when // width_ms * width_ms)] += amount
        if place:
            row = told["items"][place - 1]
            cells[*key, "position", str(place)] += amount
            cells[*key, "source", row["source"]] += amount
            cells[*key, "reason", row["reason"].removesuffix(" tea 7")] += amount
        sums[told["surface"], arm, user or list_id, count] += amount
        if user:
            days[told["surface"], user, count, when // width_ms * width_ms] += amount

    for marks, count in ((shown, "impressions"), (clicked, "clicks")):
        for (user, list_id, n), when in marks.items():
            add(user, list_id, n, count, when, 1)
    for user, list_id, place, event, when, value in rest:
        if event == "dwell":
            add(user, list_id, place, "engagement", when, value)
        else:
            add(user, list_id, place, "returns", when, 1)
            add(user, list_id, place, "revenue", when, -value)
    for user, visit, list_id, item, place, when, value in purchases:
        made = lists[user, list_id]["as_of"]["timestamp"]
        candidates = {(list_id, place): made} if when - made <= window_ms else {}
        for at_ms, other, there in touches[visit, item] if place else ():
            if at_ms <= when <= at_ms + window_ms:
                candidates[other, there] = max(at_ms, candidates.get((other, there), at_ms))
        if how == "last-touch" and candidates:
            last = max(candidates, key=lambda one: (candidates[one], *one))
            candidates = {last: candidates[last]}
        weights = {one: 1 / math.log2(1 + max(one[1], 1)) for one in candidates}
        for (other, there), weight in weights.items():
            share = weight / sum(weights.values())
            add(user, other, there, "conversions", when, share)
            add(user, other, there, "revenue", when, value * share)
    users: dict[Any, set[str]] = defaultdict(set)
    for (surface, arm, user, _), amount in sums.items():
        if amount:
            users[surface, arm].add(user)
    for (surface, arm), known in users.items():
        cells[surface, arm, "users", "", ""] = len(known)
        units = defaultdict[str, set[str]](set)
        for user in known:
            units[GROUPS.get(user, user) if arm == "x:C" else user].add(user)
        cells[surface, arm, "together", "", ""] = len(known) - len(units)

        def of_unit(users: set[str], count: str, at: tuple[str, str] = (surface, arm)) -> float:
            return sum(sums[*at, user, count] for user in users)

        for (count, other), name in {
            ("revenue", "revenue"): "revenue_per_user",
            ("clicks", "impressions"): "ctr",
        }.items():
            of = [(of_unit(users_, count), of_unit(users_, other)) for users_ in units.values()]
            cells[surface, arm, "xx", "metric", name] = sum(a * a for a, _ in of)
            cells[surface, arm, "xy", "metric", name] = sum(a * b for a, b in of) if name == "ctr" else 0.0

        def past(user: str, count: str, at: tuple[str, str] = (surface, arm)) -> float:
            """What a user did on the surface in the windows before the one of their first list of the arm."""
            began = first.get((*at, user), 0)
            known = {
                window: n for (of, who, what, window), n in days.items() if (of, who, what) == (at[0], user, count)
            }
            return sum(n for window, n in known.items() if began - window_ms <= window < began)

        then = {user: (past(user, "clicks"), past(user, "impressions")) for user in known}
        cells[surface, arm, "z", "metric", "ctr"] = sum(z for z, _ in then.values())
        cells[surface, arm, "zw", "metric", "ctr"] = sum(z * w for z, w in then.values())
        cells[surface, arm, "ww", "metric", "ctr"] = sum(w * w for _, w in then.values())
        cells[surface, arm, "xw", "metric", "ctr"] = sum(
            sums[surface, arm, user, "clicks"] * w for user, (_, w) in then.items()
        )
    return {cell: total for cell, total in cells.items() if abs(total) > 1e-9}


def merged(log: Log, draws: Sequence[int]) -> list[Record]:
    """The records of all partitions, each in its order, in an order that numbers choose."""
    left = {at: list(records) for at, records in sorted(log.items())}
    found = list[Record]()
    for n in range(sum(map(len, left.values()))):
        open_ = [at for at, records in left.items() if records]
        found.append(left[open_[draws[n % len(draws)] % len(open_)]].pop(0))
    return found
