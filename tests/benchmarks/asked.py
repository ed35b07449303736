"""Questions: what an answer costs the worker's thread. python -m tests.benchmarks.asked [--worlds a,b] > ASKED.md

From the question, a value, to the bytes of its body, on a state that has taken a stream; CPU time of the thread, each
kind of question asked of ASKED users and items drawn at random among those of the last events. The shop is made up:
100,000 items with records, a tenth, a hundredth, a thousandth of them in a bucket that a filter names; people take
items near to what they took, popular ones more often.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from consumers.files.interactions import read_interactions
from consumers.schemas import Item, User
from streamer.asking.answers import Answers
from streamer.asking.questions import Question
from streamer.engine.engine import Columns
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tests.conftest import DATA
from tests.streamer.asking.asked_world import question

ASKED, AT_ONCE, TAKEN = 200, 5_000, 300_000
SHOP_ITEMS, SHOP_USERS = 100_000, 20_000


def stream(name: str) -> pa.Table:
    """The last events of a real stream."""
    table = read_interactions(DATA / name / "interactions.parquet")
    return table.slice(max(len(table) - TAKEN, 0))


def shop(events: int = TAKEN) -> pa.Table:
    """Events of a made-up shop."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, SHOP_USERS, events)
    popular = (SHOP_ITEMS * rng.random(events) ** 3).astype(int)
    near = (user * 37 + rng.integers(0, 200, events)) % SHOP_ITEMS
    item = np.where(rng.random(events) < 0.5, popular, near)
    return pa.table(
        {
            "user_id": [f"u{u}" for u in user],
            "item_id": [f"i{i}" for i in item],
            "event_type": ["view"] * events,
            "timestamp": pa.array(1_700_000_000_000 + np.arange(events) * 1_000),
            "reason": pa.nulls(events, pa.string()),
        }
    )


WORLDS: dict[str, Callable[[], pa.Table]] = {
    "movietweetings": lambda: stream("movietweetings"),
    "globo-news": lambda: stream("globo-news"),
    "shop": shop,
}


def state_of(table: pa.Table, records: bool) -> StreamState:
    """A state that has taken the events; records: of SHOP_ITEMS items before them."""
    state = StreamState(Settings())
    engine, model = state.engine, state.engine.model
    first = int(table["timestamp"][0].as_py())
    for n in range(SHOP_ITEMS if records else 0):
        buckets = [f"of {share}" for share in (10, 100, 1_000) if n % share == 0]
        item = Item(f"i{n}", title=f"Item {n}", categories=(f"c{n % 20}",), attributes={"buckets": buckets})
        engine.introduce(item, first)
        state.catalogue.take_item(model.items.encode([item.item_id])[0], item)
    columns = engine.encode_table(table, np.ones(len(table), np.float32))
    for at in range(0, len(table), AT_ONCE):
        engine.take(Columns(*(column[at : at + AT_ONCE] for column in columns)), score=False, publish=False)
    state.clock_ms = int(columns.t.max())
    for user in ("u1", "u2"):
        state.catalogue.take_user(engine.describe(User(user)), User(user))
    return state


def questions(table: pa.Table, filtered: bool) -> dict[str, Callable[[], Question]]:
    """What is asked, by name."""
    rng = np.random.default_rng(1)
    lately = table.slice(len(table) - 20_000)
    users, items = lately["user_id"].to_pylist(), lately["item_id"].to_pylist()

    def user() -> str:
        return str(users[rng.integers(len(users))])

    def some(n: int) -> list[str]:
        return [str(items[m]) for m in rng.integers(0, len(items), n)]

    def asked(kind: str, **fields: Callable[[], Any]) -> Callable[[], Question]:
        return lambda: question(kind, **{name: field() for name, field in fields.items()})

    found = {
        "list of a user": asked("list", user_id=user),
        "… 100 places": asked("list", user_id=user, k=lambda: 100),
        "… in a context": asked("list", user_id=user, context=lambda: {"device": "phone", "geo": "DE"}),
        "… with titles and causes": asked("list", user_id=user, fields=lambda: ["title"], explain=lambda: True),
        "… without 20 items": asked("list", user_id=user, exclude=lambda: some(20)),
        "… of 100 candidates": asked("list", user_id=user, candidates=lambda: some(100)),
        "list of a session of 5": asked("list", session=lambda: [{"item_id": i} for i in some(5)]),
        "list of a basket of 3": asked("list", items=lambda: some(3)),
        "list of anybody": asked("list"),
        "similar": asked("similar", item_id=lambda: some(1)[0]),
        "together": asked("together", item_id=lambda: some(1)[0]),
        "audience": asked("audience", item_id=lambda: some(1)[0]),
        "popular": asked("popular"),
        "trending": asked("trending"),
        "newest": asked("newest"),
        "user": asked("user", user_id=user),
        "item": asked("item", item_id=lambda: some(1)[0]),
        "explanation": asked("explanation", user_id=user, item_id=lambda: some(1)[0]),
        "surprise": asked("surprise", user_id=user),
        "status": asked("status"),
    }
    if filtered:
        for share in (10, 100, 1_000):
            text = f'"of {share}" in item.buckets'
            found[f"list of a user, 1 in {share:,} passes"] = asked("list", user_id=user, filter=lambda t=text: t)
        found["popular, 1 in 100 passes"] = asked("popular", filter=lambda: '"of 100" in item.buckets')
    return found


def measure(answers: Answers, make: Callable[[], Question], k: int) -> dict[str, float]:
    """CPU ms of an answer, and the share of full answers among those that are lists of items."""
    answers.answer(make())
    took, full = [], []
    for _ in range(ASKED):
        asked = make()
        started = time.thread_time_ns()
        answer = answers.answer(asked)
        took.append((time.thread_time_ns() - started) / 1e6)
        body = json.loads(answer.body)
        assert answer.status == 200, body
        if isinstance(body.get("items"), list):
            full.append(len(body["items"]) >= (getattr(asked, "k", None) or k))
    return {
        "p50": float(np.median(took)),
        "p99": float(np.quantile(took, 0.99)),
        "full": float(np.mean(full)) if full else float("nan"),
    }


def measured(work: Callable[[], object], parts: int = 1) -> str:
    """CPU ms of a part of some work, p50 and p99."""
    took = []
    for _ in range(ASKED + 1):  # the first one loads what is needed
        started = time.thread_time_ns()
        work()
        took.append((time.thread_time_ns() - started) / 1e6 / parts)
    return f"{np.median(took[1:]):.2f} | {np.quantile(took[1:], 0.99):.2f}"


def published(state: StreamState, table: pa.Table) -> None:
    """Makes the list that would be published of one of the last users, without a word of it."""
    model = state.engine.model
    node = model.users.get(one_of(table, "user_id"))
    state.engine.relist(np.array([node], np.int32), state.clock_ms)


def together(answers: Answers, table: pa.Table) -> None:
    """Asks for the lists of eight users at once."""
    answers.answer_all([question("list", user_id=one_of(table, "user_id")) for _ in range(8)])


def one_of(table: pa.Table, column: str) -> str:
    """Of one of the last events, drawn at random."""
    return str(table[column][len(table) - 1 - int(_rng.integers(20_000))].as_py())


_rng = np.random.default_rng(2)


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.asked", description=str(__doc__).splitlines()[0])
    parser.add_argument("--worlds", default=",".join(WORLDS), help="of " + ", ".join(WORLDS))
    for name in parser.parse_args().worlds.split(","):
        table = WORLDS[name]()
        state = state_of(table, records=name == "shop")
        answers = Answers(state, state.settings, SYSTEM_CLOCK)
        model = state.engine.model
        print(f"\n| {name}: {len(model.items):,} items, {len(model.users):,} users | p50, ms | p99, ms | full |")
        print("|---|---|---|---|")
        print(f"| the model's list of a user, for comparison | {measured(partial(published, state, table))} | |")
        print(f"| list of a user, of 8 asked together | {measured(partial(together, answers, table), 8)} | |")
        for what, make in questions(table, filtered=name == "shop").items():
            found = measure(answers, make, state.settings.k)
            full = "" if np.isnan(found["full"]) else f"{found['full']:.0%}"
            print(f"| {what} | {found['p50']:.2f} | {found['p99']:.2f} | {full} |")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
