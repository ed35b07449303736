"""Speed, as a user has it: wall time of whole commands with warm kernel caches; growth, state, restart."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.benchmarks import checkpoints, growth, records
from tests.benchmarks.sizes import row_bytes
from tests.benchmarks.streams import STREAMS

TGN_FROM, TGN_EVENTS = 110_000, 2_000  # the 0.70 quantile of wikipedia, where its published training ends
TINY = "user_id,item_id,timestamp\nu1,i1,1000\nu1,i2,2000\nu2,i1,3000\n"


class Timed(NamedTuple):
    """A command that ended well."""

    answer: dict[str, Any]  # the JSON object that it printed last
    wall_s: float  # up to the end of the command
    cpu_s: float  # its processor time, user and system


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: str
    alone: str  # the same by processor time: what an idle machine would give
    bar: str
    goal: str


def run() -> str:
    """Measures everything, one command at a time; a Markdown section."""
    missing = [name for name in ("wikipedia", "globo-news") if STREAMS[name].missing()]
    if missing:
        return f"## Speed\n\nNot measured: the real stream {', '.join(missing)} is not on this machine."
    with tempfile.TemporaryDirectory() as scratch:
        _warm_up(Path(scratch))
        load = os.getloadavg()[0]
        rows = [_against_tgn(), *_globo_news()]
        rows += _state()
        restart, restart_note = _restart(Path(scratch) / "log")
        written = _checkpoints()
        grown, growth_table = _growth()
    head = "| what | measured | by processor time | bar | goal |\n|---|---|---|---|---|"
    lines = [f"| {' | '.join(row)} |" for row in (*rows, grown, restart)]
    table = "\n".join([head, *lines])
    return "\n\n".join(["## Speed", _how(load), table, restart_note, written, growth_table])


def _how(load: float) -> str:
    return (
        "`python -m tests.benchmarks speed`. Whole commands, start-up included, kernel caches warm, learning on, "
        f"defaults; medians. Load average at the start {load:.1f} on {os.cpu_count()} cores: by processor time (user and "
        "system, of every thread) is what the same work takes where nothing else runs.\n\n"
        "TGN is torch_geometric's, untrained (weights do not change the time), on one thread, over "
        f"{TGN_EVENTS:,} events from number {TGN_FROM:,} on, its start-up left out. It keeps the embeddings of all items "
        "and renews only those that an event changed: exact, and faster than embedding every item for each event."
    )


def _warm_up(scratch: Path) -> None:
    """Compiles what is not compiled yet, and has the files of the packages read."""
    tiny = scratch / "tiny.csv"
    tiny.write_text(TINY)
    _freshet("replay", str(tiny), "--json")


def _against_tgn() -> Row:
    """Ours, TGN, ours, TGN, ours on wikipedia."""
    file = _file("wikipedia")
    ours, theirs = [], []
    for turn in range(5):
        if turn % 2:
            sample = ["wikipedia", str(TGN_FROM), str(TGN_EVENTS)]
            theirs.append(_module("tgn_speed", *sample).answer)
        else:
            ours.append(_freshet("replay", file, "--k", "20", "--json"))
    wall, cpu = _rates(ours)
    tgn_wall, tgn_cpu = (median(answer[name] for answer in theirs) for name in ("events_per_second", "per_cpu_second"))
    return Row(
        "wikipedia, `replay --k 20`, against TGN event-wise",
        f"**{wall / tgn_wall:.0f}×**: {wall:,.0f} against {tgn_wall:,.0f} events/s",
        f"{cpu / tgn_cpu:.0f}×: {cpu:,.0f} against {tgn_cpu:,.0f}",
        "25×",
        "60×",
    )


def _globo_news() -> list[Row]:
    rows = []
    for flags, runs, bar, goal in (
        (("--k", "20"), 1, "6,000", "20,000"),
        (("--observe-only",), 3, "200,000", "500,000"),
    ):
        wall, cpu = _rates([_freshet("replay", _file("globo-news"), *flags, "--json") for _ in range(runs)])
        what = f"globo-news, `replay {' '.join(flags)}`, events/s"
        rows.append(Row(what, f"**{wall:,.0f}**", f"{cpu:,.0f}", bar, goal))
    return rows


def _state() -> list[Row]:
    user, item = row_bytes()
    return [
        Row("state of a user, without the set of pairs", f"**{user:,} B**", "", "2 KiB", "1 KiB"),
        Row("state of an item", f"**{item:,} B**", "", "4 KiB", "2 KiB"),
    ]


def _restart(log: Path) -> tuple[Row, str]:
    written = _module("restart", "write", _file("globo-news"), str(log)).answer
    runs = [_module("restart", "read", str(log)) for _ in range(3)]
    wall, cpu = median(run.wall_s for run in runs), median(run.cpu_s for run in runs)
    what = f"restart with {written['interactions']:,} interactions, to the first list"
    steps = ", ".join(f"{name} {median(run.answer[f'{name}_s'] for run in runs):.2f} s" for name in READ_STEPS)
    note = (
        f"Checkpoint of globo-news: {written['mib']:,.0f} MiB in {written['pages']:,} pages, {_size_mib(log):,.0f} MiB on "
        f"disk; packing {written['pack_s']:.1f} s, writing {written['commit_s']:.1f} s. Restart: {steps}."
    )
    return Row(what, f"**{wall:.1f} s**", f"{cpu:.1f} s", "10 s", "3 s"), note


def _checkpoints() -> str:
    found = [_module("checkpoints", _file("globo-news"), str(size)).answer for size in checkpoints.SIZES]
    how = (
        f"Checkpoints of globo-news (`checkpoints.py`): everything at once, and what {checkpoints.EVENTS:,} more events "
        f"changed (one second at 1,000 a second, the default interval), median of {checkpoints.DELTAS}. A delta grows "
        "with the users and items that its events touch, not with the state."
    )
    return "\n".join([how, "", checkpoints.table_of(found)])


READ_STEPS = ("import", "make", "load", "list")


def _growth() -> tuple[Row, str]:
    found, notes = [], []
    for copies in growth.COPIES:
        try:
            found.append(_module("growth", _file("globo-news"), str(copies)).answer)
        except subprocess.CalledProcessError as error:  # the memory of this machine may end before the sizes do
            notes.append(f"{copies:,} copies did not run (exit code {error.returncode}).")
    small, large = found[0], found[-1]
    lines = [
        f"| {r['items']:,} | {r['users']:,} | {r['interactions']:,} | {r['event_us']:.1f} | {r['event_cpu_us']:.1f} | "
        f"{r['observe_us']:.2f} | {r['state_mib']:,.0f} | {r['peak_mib']:,.0f} |"
        for r in found
    ]
    head = (
        "| items | users | interactions | µs an event | by processor time | µs, observe only | state, MiB | peak, MiB |\n"
        + "|---" * 8
        + "|"
    )
    how = (
        f"Growth: the first {growth.TILE:,} events of globo-news in disjoint copies of users and items, interleaved event "
        f"by event, then its next {growth.MEASURED:,} events, each user in one of the copies: "
        "score + learn + observe + top-20, in process, medians over steps."
    )
    row = Row(
        f"cost per event, {small['items']:,} → {large['items']:,} items, "
        f"{small['interactions']:,} → {large['interactions']:,} interactions",
        f"**{large['event_us'] / small['event_us']:.2f}×**",
        f"{large['event_cpu_us'] / small['event_cpu_us']:.2f}×",
        "≤ 1.5×",
        "flat",
    )
    return row, "\n".join([how, "", head, *lines, *notes])


def _rates(runs: list[Timed]) -> tuple[float, float]:
    """Events a second of wall time and of processor time."""
    events = runs[0].answer["events"]
    return events / median(run.wall_s for run in runs), events / median(run.cpu_s for run in runs)


def _file(stream: str) -> str:
    return str(STREAMS[stream].file(records.FOLDER))


def _size_mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def _freshet(*arguments: str) -> Timed:
    return _timed([str(Path(sys.executable).with_name("freshet")), *arguments])


def _module(name: str, *arguments: str) -> Timed:
    return _timed([sys.executable, "-m", f"{__package__}.{name}", *arguments])


def _timed(command: list[str]) -> Timed:
    """Runs a command that prints JSON last. Raises CalledProcessError."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=records.ROOT, check=True
    )
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    timed = Timed(json.loads(done.stdout.strip().splitlines()[-1]), wall_s, cpu_s)
    print(
        f"speed: {wall_s:.1f} s, {cpu_s:.1f} s of processor: {' '.join([Path(command[0]).name, *command[1:]])}",
        flush=True,
    )
    return timed
