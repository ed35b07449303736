"""Quality: our model as a user runs it, without each of its parts, and every peer, all before the same judge."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from streamer.runtime.progress import progress
from tests.benchmarks import ranks, records
from tests.benchmarks.judge import judge, require_judge
from tests.benchmarks.peers import MOST_EVENTS, PEERS, missing
from tests.benchmarks.streams import STREAMS, Stream

OURS = "freshet"
ABLATIONS = "ablations"
WITHOUT = "without-"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


class Failed(Exception):
    """A run ended with an error; the others go on."""


def parts() -> tuple[str, ...]:
    """Names of what the model can be run without; trained vectors are not there in any of these runs."""
    from tgn.config import PARTS

    return tuple(part for part in PARTS if part != "trained")


def rows_of(stream: Stream, chosen: list[str]) -> list[str]:
    """The rows to measure on a stream; `chosen`: peers, `freshet`, `ablations`; all where empty."""
    rows = []
    for name in chosen or [OURS, *PEERS, ABLATIONS]:
        if name == OURS:
            rows += [OURS, *(f"{OURS}-seed-{seed}" for seed in range(1, stream.seeds))]
        elif name == ABLATIONS:
            rows += [WITHOUT + part for part in parts()]
        else:
            rows.append(name)
    return rows


def run(streams: list[str], chosen: list[str]) -> bool:
    """Measures each row of each stream and keeps it as a record; False where a run failed."""
    require_judge()
    records.FOLDER.mkdir(exist_ok=True)
    jobs = [(STREAMS[name], row) for name in streams for row in rows_of(STREAMS[name], chosen)]
    fine = True
    with progress("quality", len(jobs), unit="runs") as advance:
        for stream, row in jobs:
            reason = _skipped(stream, row)
            try:
                record = {"skipped": reason} if reason else _measure(stream, row)
            except Failed as error:
                fine = False
                print(f"{stream.name}: {row} failed: {error}", flush=True)
            else:
                records.save(f"{stream.name}.{row}", {"part": "quality", "stream": stream.name, "row": row, **record})
                print(f"{stream.name}: {row}: {reason or _short(record)}", flush=True)
                if "paired" in record:
                    print(f"  {_paired(stream, row, record['paired'])}", flush=True)
            advance(1)
    return fine


def _skipped(stream: Stream, row: str) -> str | None:
    if stream.missing():
        return stream.missing()
    if row not in PEERS:
        return None
    events = pq.read_metadata(stream.file(records.FOLDER)).num_rows
    if events > MOST_EVENTS.get(row, events):
        return f"{events:,} events are more than {row} takes in reasonable time (at most {MOST_EVENTS[row]:,})"
    return missing(row)


def _measure(stream: Stream, row: str) -> records.Record:
    started = time.perf_counter()
    record = _peer(stream, row) if row in PEERS else _freshet(stream, row)
    return {**record, "seconds": round(time.perf_counter() - started, 1)}


def _peer(stream: Stream, peer: str) -> records.Record:
    command = [sys.executable, "-m", "tests.benchmarks.run_peer", stream.name, peer, str(records.FOLDER)]
    verdict: records.Record = json.loads(_output(command, {**os.environ, **ONE_THREAD}))
    return {**verdict, "command": f"python -m tests.benchmarks quality --streams {stream.name} --peers {peer}"}


def _freshet(stream: Stream, row: str) -> records.Record:
    """One replay, one verdict; events/s is all events over the wall time of the whole command."""
    file, lists = stream.file(records.FOLDER), records.FOLDER / f"{stream.name}.{row}.lists.parquet"
    flags = list(stream.flags)
    if row.startswith(WITHOUT):
        flags += ["--without", row.removeprefix(WITHOUT)]
    if "-seed-" in row:
        flags += ["--seed", row.rpartition("-")[2]]
    freshet = str(Path(sys.executable).with_name("freshet"))
    started = time.perf_counter()
    summary = json.loads(_output([freshet, "replay", str(file), *flags, "--lists-out", str(lists), "--json"]))
    seconds = time.perf_counter() - started
    verdict = judge(stream, file, lists)
    ranks.keep(stream, row, ranks.ranks_of(stream, file, lists))
    lists.unlink()
    other, which = (OURS, "") if row.startswith(WITHOUT) else (row, ranks.BEFORE)
    paired = ranks.against(stream, row, other, which)
    return {
        **verdict,
        **({"paired": paired} if paired else {}),
        "events_per_second": round(summary["events"] / seconds, 1),
        "command": " ".join(["freshet replay", file.name, *flags]),
    }


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """The last line of what a command prints. Raises Failed."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=records.ROOT, env=environment)
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode or not lines:
        raise Failed(lines[-1] if lines else f"exit code {done.returncode}")
    return lines[-1]


def _paired(stream: Stream, row: str, paired: records.Record) -> str:
    other = f"the whole model of {paired['commit']}" if row.startswith(WITHOUT) else f"commit {paired['commit']}"
    metric = stream.metrics[0]
    return f"against {other}: {metric} {ranks.in_words(paired, metric)}"


def _short(record: records.Record) -> str:
    return (
        f"HR@10 {record['hr@10']:.4f}, NDCG@10 {record['ndcg@10']:.4f}, MRR {record['mrr']:.4f}, "
        f"{record['events_per_second']:,.0f} events/s, {record['seconds']:.0f} s"
    )
