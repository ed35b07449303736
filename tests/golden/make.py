"""Writes the golden checkpoint of the present format: python -m tests.golden.make

Once a format is out, its file stays as it is: every later version reads it, or refuses it in one clear line.
"""

import json
import tempfile
from pathlib import Path

from msgspec import to_builtins

from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record, TopicPartition
from streamer.cli.producing import interaction_chunks
from streamer.ops.checkpoint_archive import write_file
from streamer.pipeline.epoch import CommittedStep, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.learned_record import decode_learned
from streamer.pipeline.pipeline import Pipeline
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.state.stream_state import FORMAT, StreamState
from streamer.worker.worker import Worker
from tests.worlds import checkerboard, table_of

HERE = Path(__file__).parent
ARMS = [{"name": "as-now", "share": 0.5}, {"name": "slow", "share": 0.5, "model": {"learning_rate": 1e-4, "hidden": 8}}]
SHADOW = {"name": "pace", "salt": "pace", "arms": ARMS, "shadow": True}
CHALLENGED = {"default": {"version": "golden", "rules": {"surface": "default", "experiment": SHADOW}}}


def known(state: StreamState) -> dict[str, object]:
    """What a state must give back, without floats: no processor makes it another."""
    users, items = state.engine.model.users.ids, state.engine.model.items.ids
    return {
        "epoch": state.epoch,
        "records": state.records,
        "positions": {f"{tp.topic}[{tp.partition}]": offset for tp, offset in sorted(state.positions.items())},
        "lists": {users[user]: [items[item] for item in row] for user, row in sorted(state.listed.lists().items())},
        "history": {
            users[n]: [items[i] for i in state.ledger.entries(n)["item"]] for n in range(len(users)) if users[n]
        },
        "items": {id_: to_builtins(item) for n, id_ in enumerate(items) if (item := state.catalogue.item(n))},
        "users": {id_: to_builtins(user) for n, id_ in enumerate(users) if (user := state.catalogue.user(n))},
        "challengers": {key: one.quality.events for key, one in state.challengers.items()},
        "learned": [state.learning.events, state.learning.total, state.learning.position, list(state.learning.seats)],
    }


def shared(pages: dict[bytes, bytes], settings: Settings) -> StreamState:
    """The state of these pages, gone on as one of several workers: of steps one was told, one added, one is not due.

    From the third interaction on a challenger is in shadow.
    """
    state = StreamState(settings, lambda prefix: ((k, v) for k, v in pages.items() if k.startswith(prefix)))
    state.load()
    pipeline, intake, steps = Pipeline(settings, state, worker="f-1"), Intake(settings), list[CommittedStep]()
    first = state.positions[TopicPartition("interactions", 0)]
    for n in range(8):
        values = {"user_id": f"u{n}", "item_id": f"i{n + 1}", "event_type": "view", "timestamp": 2_000_000_000_000}
        record = Record("interactions", 0, first + n, b"k", json.dumps(values).encode(), (), 0)
        taken = epoch_input([intake.arrival(record, 2_000_000_000_000)], keeps=4, learned=steps if n == 5 else (), rules=CHALLENGED if n == 2 else None)  # fmt: skip
        told = [one for one in pipeline.take(taken).records if one.topic == settings.model_topic]
        steps += [CommittedStep(9, decode_learned(one.value or b"")._replace(seat="f-2")) for one in told]
    return state


def main() -> None:
    """One log with interactions, records of items and users, a deleted item, an erased user and a retraction, in three
    checkpoints; then others are there."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(log=Path(folder) / "log", state=Path(folder) / "state", k=5)
        log = OwnedLog(Path(folder) / "log")
        log.create(topic_specs(settings, partitions=2))
        chunks = list(interaction_chunks(table_of(checkerboard(users=12, items=16, events=300)), "interactions"))
        seventh = chunks[0][0][7]
        again = json.dumps(json.loads(seventh.value or b"") | {"retract": True}).encode()
        known_before = [
            NewRecord("items", b"i4", b'{"item_id": "i4", "title": "Four"}'),
            NewRecord("items", b"i6", b'{"item_id": "i6", "title": "Six", "price": 6.5, "expires_at": 9000000000000}'),
            NewRecord("items", b"i7", b'{"item_id": "i7", "tags": ["a", "b"], "hidden": true}'),
            NewRecord("users", b"u3", b'{"user_id": "u3", "country": "de"}'),
            NewRecord("users", b"u5", b'{"user_id": "u5", "country": "fr"}'),
        ]
        rest = [
            NewRecord("items", b"i4", None),
            NewRecord("users", b"u5", None),
            NewRecord("interactions", seventh.key, again),
        ]
        for records in ([*known_before, *chunks[0][0][:200]], chunks[0][0][200:], rest):
            log.append(records)
            worker = Worker.open(log, settings)
            worker.run(exit_at_end=True)
            worker.close()
        pages = dict(log.stored_state(settings.application).pages())
        state = shared(pages, settings)
        pages |= {key: value for key, value in state.delta().items() if value is not None}
        write_file(sorted(pages.items()), HERE / f"checkpoint-{FORMAT}.parquet")
        text = json.dumps(known(state), ensure_ascii=False)
        (HERE / f"checkpoint-{FORMAT}.json").write_text(text + "\n")
        log.close()


if __name__ == "__main__":
    main()
