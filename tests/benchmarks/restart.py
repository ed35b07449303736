"""Restart: a checkpoint of a whole stream written, and read by a fresh process up to its first list.

python -m tests.benchmarks.restart write FILE FOLDER    prints JSON: what was written, and how long that took
python -m tests.benchmarks.restart read FOLDER          prints JSON once it has a list

Both do what a worker does (`streamer.worker.worker`), with the embedded log's committer.
"""

import json
import sys
import time
from pathlib import Path

CHUNK = 100_000
LAST = "last user"  # a file beside the log: whose list is wanted


def write(file: Path, folder: Path) -> dict[str, float]:
    """Observes the whole stream, then writes the state as one delta; embeddings, which learning would move, go along."""
    from consumers.embedded.log import EmbeddedLog
    from consumers.event_weights import EventWeights
    from consumers.files.interactions import read_interactions
    from streamer.features.tables import weigh_rows
    from streamer.settings import Settings
    from streamer.state.stream_state import StreamState

    settings = Settings()
    state, weights, table = StreamState(settings), EventWeights(settings.event_weights), read_interactions(file)
    for first in range(0, len(table), CHUNK):
        rows = table.slice(first, CHUNK)
        columns = state.engine.encode_table(rows, weigh_rows(rows, weights))
        state.engine.take(columns, learn=False, score=False, publish=False)
    state.engine.model.embeddings.dirty[:] = 1
    state.clock_ms = table["timestamp"][-1].as_py()
    log = EmbeddedLog(folder)
    started = time.perf_counter()
    delta = state.delta()
    packed = time.perf_counter()
    log.committer(settings.application).commit([], {}, delta)
    committed = time.perf_counter()
    log.close()
    (folder / LAST).write_text(table["user_id"][-1].as_py())
    return {
        "interactions": len(table),
        "pages": len(delta),
        "mib": sum(len(value) for value in delta.values() if value) / 2**20,
        "pack_s": packed - started,
        "commit_s": committed - packed,
    }


def read(folder: Path) -> dict[str, float]:
    """Loads the checkpoint and makes a list of the user that was last. Times are from the start of this function."""
    started = time.perf_counter()
    from consumers.embedded.log import EmbeddedLog
    from streamer.settings import Settings
    from streamer.state.stream_state import StreamState

    settings = Settings()
    imported = time.perf_counter()
    log = EmbeddedLog(folder)
    state = StreamState(settings, log.committer(settings.application).load_state)
    made = time.perf_counter()
    state.load()
    loaded = time.perf_counter()
    items = state.engine.recommend((folder / LAST).read_text(), state.clock_ms)
    return {
        "items": len(items),
        "import_s": imported - started,
        "make_s": made - imported,
        "load_s": loaded - made,
        "list_s": time.perf_counter() - loaded,
    }


if __name__ == "__main__":
    answer = write(Path(sys.argv[2]), Path(sys.argv[3])) if sys.argv[1] == "write" else read(Path(sys.argv[2]))
    print(json.dumps(answer), flush=True)
