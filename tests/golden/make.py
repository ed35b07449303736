"""Writes the golden checkpoint of the present format: python -m tests.golden.make

Once a format is out, its file stays as it is: every later version reads it, or refuses it in one clear line.
"""

import json
import tempfile
from pathlib import Path

from msgspec import to_builtins

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.producing import interaction_chunks
from streamer.ops.checkpoint_archive import write_file
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.state.stream_state import FORMAT, StreamState
from streamer.worker.worker import Worker
from tests.worlds import checkerboard, table_of

HERE = Path(__file__).parent


def known(state: StreamState) -> dict[str, object]:
    """What a state must give back, without floats: no processor makes it another."""
    users, items = state.engine.model.users.ids, state.engine.model.items.ids
    return {
        "epoch": state.epoch,
        "records": state.records,
        "positions": {f"{tp.topic}[{tp.partition}]": offset for tp, offset in sorted(state.positions.items())},
        "lists": {users[user]: [items[item] for item in row] for user, row in sorted(state.listed.lists().items())},
        "history": {users[n]: [items[i] for i in state.ledger.of(n)["item"]] for n in range(len(users)) if users[n]},
        "items": {id_: to_builtins(item) for n, id_ in enumerate(items) if (item := state.catalogue.item(n))},
        "users": {id_: to_builtins(user) for n, id_ in enumerate(users) if (user := state.catalogue.user(n))},
    }


def main() -> None:
    """One log with interactions, records of items and users, a deleted item, an erased user and a retraction, in three
    checkpoints."""
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
        write_file(log.stored_state(settings.application).pages(), HERE / f"checkpoint-{FORMAT}.parquet")
        text = json.dumps(known(worker.state), ensure_ascii=False)
        (HERE / f"checkpoint-{FORMAT}.json").write_text(text + "\n")
        log.close()


if __name__ == "__main__":
    main()
