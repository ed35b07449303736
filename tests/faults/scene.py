"""A log under test, in either home, whose workers crash, and the audit of what is left in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumers.log import Log
from consumers.records import NewRecord
from streamer.ops.audit import Audit, audit
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from tests.faults import victim
from tests.faults.forked import Forked
from tests.topic_names import topics_under
from tests.waiting import end, ended
from tests.worlds import Events

ROOT = Path(__file__).parents[2]


class Scene:
    """Topics of its own, and the settings of a worker that commits and checkpoints often.

    Args: name: prefix of the topics; bootstrap: a broker; None: an embedded log in `folder`.
    """

    def __init__(self, folder: Path, name: str, bootstrap: str | None = None, **settings: Any) -> None:
        own = topics_under(f"{name}.") | {"application": name}
        home: dict[str, Any] = {"bootstrap": bootstrap} if bootstrap else {"log": str(folder / "log")}
        often = {"max_epoch_events": 40, "checkpoint_interval_ms": 30, "state": str(folder / "state")}
        self.values = own | home | often | settings
        self.file = folder / f"{name}.toml"
        self.file.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in self.values.items()))
        self.settings = Settings.load(self.file)
        self._started: list[Forked] = []

    def open(self) -> Log:
        """The log, as another process has it."""
        return open_log_of(self.settings)

    def create(self, partitions: int = 1) -> None:
        """Makes the topics."""
        log = self.open()
        log.create(topic_specs(self.settings, partitions))
        log.close()

    def send(self, records: Sequence[NewRecord]) -> None:
        """Appends records."""
        log = self.open()
        log.append(records)
        log.close()

    def crash(self, effect: str, n: int = 1) -> None:
        """Runs a worker that dies the nth time that the effect has happened."""
        code = ended(self._victim(effect, n))
        assert code == victim.CRASHED, (effect, code)

    def start(self, effect: str, n: int = 1) -> Forked:
        """Starts a worker that goes on until it dies the nth time that the effect has happened."""
        return self._victim(effect, n, True)

    def close(self) -> None:
        """Ends what it started and what still runs."""
        for process in self._started:
            end(process)

    def finish(self) -> str:
        """Runs a worker to the end of the log; gives the digest of its state.

        In a process of its own: one that has lost its seat to another never takes it again.
        """
        out = self.file.with_suffix(".digest")
        self._started.append(Forked(victim.finish, self.file, out, cwd=self.file.parent))
        assert ended(self._started[-1]) == 0
        return out.read_text()

    def audit(self) -> Audit:
        """Compares what is in the log with one pass over its committed epochs."""
        log = self.open()
        found = audit(log, self.settings)
        log.close()
        return found

    def interactions(self, events: Events, first: int = 0) -> list[NewRecord]:
        """Events as records, numbered from `first`."""
        rows: list[dict[str, Any]] = [
            {"user_id": u, "item_id": i, "event_type": "view", "timestamp": t, "event_id": str(first + n)}
            for n, (u, i, t) in enumerate(events)
        ]
        topic = self.settings.interactions_topic
        return [NewRecord(topic, row["user_id"].encode(), json.dumps(row).encode()) for row in rows]

    def _victim(self, effect: str, n: int, stay: bool = False) -> Forked:
        self._started.append(Forked(victim.crash, self.file, effect, n, stay, cwd=self.file.parent))
        return self._started[-1]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(part)}" for key, part in value.items()) + "}"
    return json.dumps(value)
