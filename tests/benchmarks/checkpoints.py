"""What a checkpoint costs as the state grows: python -m tests.benchmarks.checkpoints FILE INTERACTIONS prints JSON.

(1) The first INTERACTIONS of FILE are observed, with ledger and seen ids, and written as one checkpoint: the full one.
(2) DELTAS times, EVENTS more are taken as `freshet run` takes them (1,000 are one second, one checkpoint interval, at
1,000 a second) and what changed is written beside it: the delta. Both into the embedded log, the outputs left out.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from consumers.embedded.log import EmbeddedLog
from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions
from consumers.log import Committer
from consumers.records import Record
from streamer.cli.producing import interaction_chunks
from streamer.features.event_ids import digest_event_id
from streamer.features.tables import weigh_rows
from streamer.pipeline.epoch import epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.ledger import ENTRY, event_number
from streamer.state.stream_state import StreamState

SIZES = (100_000, 300_000, 1_000_000)
EVENTS, DELTAS = 1_000, 5
CHUNK = 100_000


def measure(file: Path, interactions: int) -> dict[str, float]:
    """Everything about one size. The stream is cut so that the deltas fit behind it."""
    settings, table = Settings(), read_interactions(file)
    first = min(interactions, len(table) - DELTAS * EVENTS)
    with tempfile.TemporaryDirectory() as folder:
        log = EmbeddedLog(Path(folder) / "log")
        committer = log.committer(settings.application)
        state = StreamState(settings, committer.load_state)
        _observe(state, table.slice(0, first), EventWeights(settings.event_weights))
        full = _write(state, committer)
        pipeline, deltas = Pipeline(settings, state), []
        for n in range(DELTAS):
            _take(pipeline, table.slice(first + n * EVENTS, EVENTS), settings)
            deltas.append(_write(state, committer))
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        log.close()
    return {
        "interactions": first,
        **{f"full_{name}": value for name, value in full.items()},
        **{f"delta_{name}": median(delta[name] for delta in deltas) for name in full},
        "disk_mib": disk / 2**20,
    }


def _observe(state: StreamState, table: pa.Table, weights: EventWeights) -> None:
    """What a worker's state holds after these rows, without the scoring."""
    for first in range(0, len(table), CHUNK):
        rows = table.slice(first, CHUNK)
        columns = state.engine.encode_table(rows, weigh_rows(rows, weights))
        state.engine.take(columns, learn=False, score=False, publish=False)
        digests = [digest_event_id("u", str(first + n)) for n in range(len(rows))]
        entries = np.zeros(len(rows), ENTRY)
        entries["order_ms"] = entries["t"] = columns.t
        entries["order"] = np.arange(first, first + len(rows))
        entries["event"] = [event_number(digest) for digest in digests]
        entries["item"], entries["weight"], entries["context"] = columns.item, columns.weight, columns.context
        state.ledger.add(columns.user, entries)
        for digest in digests:
            state.seen_events.take(digest)
    state.engine.model.embeddings.dirty[:] = 1  # learning would have moved them
    state.clock_ms = table["timestamp"][-1].as_py()


def _take(pipeline: Pipeline, table: pa.Table, settings: Settings) -> None:
    intake = Intake(settings)
    named = table.append_column("event_id", pa.array([f"later-{t}-{n}" for n, t in enumerate(table["timestamp"])]))
    for records, _ in interaction_chunks(named, settings.interactions_topic):
        arrivals = [
            intake.arrival(Record(r.topic, 0, n, r.key, r.value, r.headers, 0), 1 << 60) for n, r in enumerate(records)
        ]
        pipeline.take(epoch_input(arrivals))


def _write(state: StreamState, committer: Committer) -> dict[str, Any]:
    started = time.perf_counter()
    delta = state.delta()
    packed = time.perf_counter()
    committer.commit([], {}, delta)
    return {
        "pages": len(delta),
        "mib": sum(len(page) for page in delta.values() if page) / 2**20,
        "pack_ms": (packed - started) * 1000,
        "write_ms": (time.perf_counter() - packed) * 1000,
    }


def table_of(found: list[dict[str, float]]) -> str:
    """The measurements as a Markdown table."""
    head = "| interactions | full: pages | MiB | packing, s | writing, s | delta: pages | MiB | packing, ms | writing, ms |"
    lines = [
        f"| {r['interactions']:,} | {r['full_pages']:,} | {r['full_mib']:,.0f} | {r['full_pack_ms'] / 1000:.2f} | "
        f"{r['full_write_ms'] / 1000:.2f} | {r['delta_pages']:,.0f} | {r['delta_mib']:.1f} | {r['delta_pack_ms']:.0f} | "
        f"{r['delta_write_ms']:.0f} |"
        for r in found
    ]
    return "\n".join([head, "|---" * 9 + "|", *lines])


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
