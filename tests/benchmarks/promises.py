"""Promises of lists under random interleavings: python -m tests.benchmarks.promises [--interleavings N] writes PROMISES.md.

Each interleaving is a world of its own: 6 users, 15 items, 30 steps. A step is an epoch of interactions, an item that is
hidden, shown, deleted, made anew, that expires or will be available, rules that change, time that passes, or lists that
are asked: of a user, a session, a basket, with and without a filter. Every list is checked as it leaves, published or
asked, and after each epoch whatever is published is checked again once nothing waits: nothing seen (where repeats are
off), nothing hidden, deleted, expired or not yet available, nothing that a filter keeps out, nothing twice.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from consumers.schemas import Item
from streamer.asking.asked_clock import AskedClock
from streamer.pipeline.epoch import EpochOutput, ItemChange, epoch_input
from tests.benchmarks.records import commit, machine
from tests.streamer.asking.asked_world import AskedWorld
from tests.worlds import MINUTE_MS

RESULTS = Path(__file__).parent / "PROMISES.md"
USERS, ITEMS, STEPS, K = 6, 15, 30, 6
KINDS = ("events",) * 6 + (
    "hide",
    "show",
    "delete",
    "again",
    "expire",
    "later",
    "time",
    "user",
    "session",
    "basket",
) * 2
FIRST_MS = 1_600_000_000_000
FILTERS: tuple[tuple[str | None, int], ...] = ((None, ITEMS), ("item.price < 8", 8), ("item.price < 3", 3))


class Interleaving:
    """A world, what has been promised of it, and what was found."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._seen_once = bool(self._draw.random() < 0.7)
        self._world = AskedWorld(exclude_seen=self._seen_once, k=K, every_item_below=int(self._draw.choice([0, 500])))
        self._clock = AskedClock(self._world.state, self._world.clock)
        self._at_ms = FIRST_MS
        self._had: dict[str, set[str]] = {f"u{n}": set() for n in range(USERS)}
        self._items = {f"i{n}": Item(f"i{n}", attributes={"price": n}) for n in range(ITEMS)}
        self._gone: set[str] = set()
        self._published: dict[str, list[str]] = {}
        self.checked, self.broken = Counter[str](), list[str]()
        self._take([], *(ItemChange(one.item_id, one) for one in self._items.values()))

    def play(self) -> None:
        """All steps."""
        for _ in range(STEPS):
            self._step(str(self._draw.choice(KINDS)))

    def _step(self, kind: str) -> None:
        world, name = self._world, f"i{self._draw.integers(ITEMS)}"
        item, user = self._items[name], f"u{self._draw.integers(USERS)}"
        if kind == "events":
            self._take(
                [
                    (f"u{self._draw.integers(USERS)}", f"i{self._draw.integers(ITEMS)}")
                    for _ in range(self._draw.integers(1, 6))
                ]
            )
        elif kind == "delete":
            self._gone.add(name)
            for had in self._had.values():  # whatever was done with it is taken back
                had.discard(name)
            self._take([], ItemChange(name, None))
        elif kind == "time":
            self._pass(int(self._draw.integers(1, 30)))
        elif kind in ("hide", "show", "again", "expire", "later"):
            now, soon = self._now_ms(), int(self._draw.integers(-5, 20)) * MINUTE_MS
            until = now + soon if kind == "expire" else None
            since = now + soon if kind == "later" else None
            changed = Item(
                name, attributes=item.attributes, hidden=kind == "hide", expires_at=until, available_from=since
            )
            self._items[name] = changed
            self._gone.discard(name)
            self._take([], ItemChange(name, changed))
        else:
            text, most = FILTERS[self._draw.integers(len(FILTERS))]
            some = [f"i{n}" for n in self._draw.integers(0, ITEMS, 3).tolist()]
            of = {
                "user": {"user_id": user},
                "session": {"session": [{"item_id": i} for i in some]},
                "basket": {"items": some},
            }
            listed = world.listed(**of[kind], filter=text, k=int(self._draw.integers(1, ITEMS)))
            seen = self._had[user] if kind == "user" else {*some} if kind == "basket" or self._seen_once else set()
            self._check(f"asked, {kind}", listed, seen if kind != "user" or self._seen_once else set(), most)

    def _take(self, events: list[tuple[str, str]], *changes: ItemChange) -> None:
        self._at_ms = max(self._at_ms, self._now_ms())
        rows = []
        for who, what in events:
            self._at_ms += int(self._draw.integers(1, MINUTE_MS))
            rows.append((who, what, self._at_ms))
        output = self._world.take(rows, *changes)
        for who, what in events:
            self._had[who].add(what)
            if what in self._gone:  # an interaction with a deleted item makes it one of which nothing is known
                self._gone.discard(what)
                self._items[what] = Item(what)
        self._left(output)
        self._settle()

    def _pass(self, minutes: int) -> None:
        self._world.clock.advance(60 * minutes)
        self._settle()

    def _settle(self) -> None:
        """What a worker does when nothing comes: items that are due come and go, and lists that name them follow."""
        state, pipeline = self._world.state, self._world.pipeline
        if state.catalogue.has_due(self._now_ms()):
            self._left(pipeline.take(epoch_input(now_ms=self._now_ms())))
        while len(state.repairs):
            self._left(pipeline.take(epoch_input(repair=True)))
        for who, listed in self._published.items():
            self._check("published", listed, self._had[who] if self._seen_once else set(), ITEMS)

    def _left(self, output: EpochOutput) -> None:
        for record in output.records:
            if record.topic == self._world.settings.recommendations_topic and record.key is not None:
                who = record.key.decode()
                if record.value is None:
                    self._published.pop(who, None)
                else:
                    self._published[who] = [one["item_id"] for one in json.loads(record.value)["items"]]

    def _now_ms(self) -> int:
        return self._clock.now_ms() if self._world.state.clock_ms else FIRST_MS

    def _check(self, what: str, listed: list[str], seen: set[str], most: int) -> None:
        self.checked[what] += 1
        now, kept_out = self._now_ms(), set[str]()
        for name, item in self._items.items():
            away = (
                item.hidden
                or name in self._gone
                or (item.expires_at or now + 1) <= now
                or (item.available_from or 0) > now
            )
            if away or ((item.attributes or {}).get("price", ITEMS) >= most and most < ITEMS):
                kept_out.add(name)
        for wrong, names in (("seen", seen & {*listed}), ("kept out", kept_out & {*listed})):
            if names:
                self.broken.append(f"{what}: {wrong}: {sorted(names)}")
        if len({*listed}) < len(listed):
            self.broken.append(f"{what}: an item twice")


def interleavings(n: int, say: Any = lambda done, broken: None) -> tuple[Counter[str], list[str]]:
    """Plays n of them; gives how many lists were checked, and what was broken, each with its seed."""
    checked, broken = Counter[str](), list[str]()
    for seed in range(n):
        one = Interleaving(seed)
        one.play()
        checked += one.checked
        broken += [f"seed {seed}, {line}" for line in one.broken]
        if seed % 500 == 499:
            say(seed + 1, broken)
    return checked, broken


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.promises")
    parser.add_argument("--interleavings", type=int, default=10_000)
    n, started = parser.parse_args().interleavings, time.process_time()
    checked, broken = interleavings(n, lambda done, bad: print(f"{done:,} of {n:,}, {len(bad)} violations", flush=True))
    lines = [
        f"{n:,} interleavings of {STEPS} steps: {len(broken)} violations; {time.process_time() - started:.0f} s of CPU",
        *(f"{count:,} lists checked: {what}" for what, count in sorted(checked.items())),
        *broken[:20],
    ]
    print("\n".join(lines))
    head = ["# Promises of lists", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    head += [f"`python -m tests.benchmarks.promises`, commit {commit()}, {machine()}.", ""]
    RESULTS.write_text("\n".join([*head, *(f"- {line}" for line in lines), ""]))
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
