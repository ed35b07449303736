"""A state that takes records, and answers questions between them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from consumers.records import Record, TopicPartition
from consumers.schemas import Item, User
from streamer.asking.answers import Answers
from streamer.asking.questions import Question
from streamer.pipeline.epoch import EpochOutput, Erasure, ItemChange, UserChange, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tests.clocks import ManualClock
from tests.worlds import MINUTE_MS, Events

INTERACTIONS = TopicPartition("interactions", 0)
FAR_MS = 1 << 50
_QUESTION: TypeAdapter[Question] = TypeAdapter(Question)


class AskedWorld:
    """A pipeline over one partition, and the answers of its state. The clock stands still until a test moves it."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.state = StreamState(self.settings)
        self.pipeline, self.intake = Pipeline(self.settings, self.state), Intake(self.settings)
        self.clock = ManualClock()
        self.answers = Answers(self.state, self.settings, self.clock)
        self.offset = 0

    @property
    def model(self) -> Any:
        return self.state.engine.model

    def take(self, events: Events, *changes: ItemChange | UserChange | Erasure, **more: Any) -> EpochOutput:
        """One epoch of interactions (user, item, time); `more`: further fields of each."""
        rows = [{"user_id": u, "item_id": i, "event_type": "view", "timestamp": t} | more for u, i, t in events]
        return self.take_rows(rows, *changes)

    def take_rows(self, rows: Sequence[dict[str, Any]], *changes: ItemChange | UserChange | Erasure) -> EpochOutput:
        arrivals = []
        for row in rows:
            record = Record(*INTERACTIONS, self.offset, row["user_id"].encode(), json.dumps(row).encode(), (), 0)
            arrivals.append(self.intake.arrival(record, FAR_MS))
            self.offset += 1
        said = [(Record("items", 0, 0, None, None, (), 0), change) for change in changes]
        return self.pipeline.take(epoch_input(arrivals, said, ends={INTERACTIONS: self.offset}))

    def say(self, *nodes: Item | User) -> None:
        """Takes records of items and users."""
        self.take([], *(ItemChange(one.item_id, one) if isinstance(one, Item) else UserChange(one) for one in nodes))

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The body of an answer, which has to be one."""
        status, body = self.answer(kind, **fields)
        assert status == 200, body
        return body

    def answer(self, kind: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        answer = self.answers.answer(question(kind, **fields))
        return answer.status, json.loads(answer.body)

    def listed(self, **fields: Any) -> list[str]:
        """The ids of a list."""
        return ids(self.ask("list", **fields))

    def digest(self) -> str:
        """Of all that the state is: every array of the model, and the rest."""
        found = hashlib.sha256(repr(self.state.parts()).encode())
        _add(found, self.model.arrays())
        found.update(repr((self.model.users.ids, self.model.items.ids, self.state.catalogue.records())).encode())
        return found.hexdigest()


def question(kind: str, **fields: Any) -> Question:
    """A question as JSON gives it."""
    return _QUESTION.validate_python({"kind": kind} | fields)


def ids(body: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in body["items"]]


def _add(found: Any, arrays: Any) -> None:
    for part in arrays:
        if isinstance(part, np.ndarray):
            found.update(part.tobytes())
        else:
            _add(found, part)


def shop(users: int = 30, items: int = 40, events: int = 400, seed: int = 0) -> Events:
    """Everybody walks about near to what they took last."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, items, users)
    world = []
    for n in range(events):
        u = int(rng.integers(users))
        at[u] = (at[u] + rng.integers(-3, 4)) % items
        world.append((f"u{u}", f"i{at[u]}", (n + 1) * MINUTE_MS))
    return world
