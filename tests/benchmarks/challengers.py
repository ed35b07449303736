"""What a challenger costs: python -m tests.benchmarks.challengers [--streams NAMES] [--rows N] writes CHALLENGERS.md.

Two workers in one process and without a log take the same epochs of 40 interactions, in turns, each first as often as the
other: one has the live model alone, one a challenger beside it that differs in its learning rate, in shadow. Measured is
the last half of the rows, by processor time of the thread. Memory is that of the models' arrays at the end, ids and what
both share aside; a checkpoint is all pages of the model, as they are written.
"""

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from consumers.files.interactions import read_interactions
from consumers.records import Record
from streamer.cli.producing import interaction_chunks
from streamer.experiments.experiment_records import read_experiment
from streamer.lists.rules import Rules
from streamer.ops.capacity import Costs
from tests.benchmarks.capacity import PIECE
from tests.benchmarks.curve_page import page_of
from tests.benchmarks.several import LoglessWorker
from tests.benchmarks.sizes import state_bytes
from tests.benchmarks.streams import STREAMS
from tgn.model import Model
from tgn.serialization import all_pages

RESULTS = Path(__file__).parent / "CHALLENGERS.md"
ARMS = [{"name": "as-now", "share": 0.5}, {"name": "faster", "share": 0.5, "model": {"learning_rate": 0.003}}]
SHADOW = read_experiment({"name": "newer", "arms": ARMS, "state": "shadow"}).on_surface()


def lines_of(stream: str, rows: int) -> list[str]:
    """The table of a stream."""
    with TemporaryDirectory() as scratch:
        events = read_interactions(STREAMS[stream].file(Path(scratch))).drop_columns("reason").slice(0, rows)
    sent = [one for chunk, _ in interaction_chunks(events, "interactions") for one in chunk]
    records = [Record("interactions", 0, n, one.key, one.value, one.headers, n) for n, one in enumerate(sent)]
    alone, beside = LoglessWorker(0, 1), LoglessWorker(0, 1)
    rules = Rules(experiment=SHADOW)
    beside.state.take_rules({rules.surface: {"version": rules.version(), "rules": rules.text()}})
    [challenger] = beside.state.challengers.values()
    pieces = [records[at : at + PIECE] for at in range(0, len(records) - PIECE + 1, PIECE)]
    taken: list[tuple[float, float]] = []
    for n, piece in enumerate(pieces):
        before = alone.seconds, beside.seconds
        for worker in (alone, beside) if n % 2 else (beside, alone):
            worker.take(piece)
        taken.append((alone.seconds - before[0], beside.seconds - before[1]))
    us = [[1e6 * pair[i] / PIECE for pair in taken[len(taken) // 2 :]] for i in (0, 1)]
    costs, events_taken = Costs(), len(pieces) * PIECE
    live, model = beside.state.engine.model, challenger.engine.model
    rows_of = {
        "CPU an interaction, µs, mean": tuple(sum(one) / len(one) for one in us),
        "CPU an interaction, µs, median of epochs": tuple(median(one) for one in us),
        "memory an interaction, bytes": _cumulated(_array_bytes(live), _array_bytes(model), events_taken),
        "checkpoint an interaction, bytes": _cumulated(_page_bytes(live), _page_bytes(model), events_taken),
    }
    more = median(with_one - without for without, with_one in zip(*us, strict=True))
    share = _array_bytes(model) / _array_bytes(live)
    return [
        "", f"## {stream}, the first {events_taken:,}", "",
        "| | none | one challenger | times |", "|---|---|---|---|",
        *(f"| {what} | {a:,.0f} | {b:,.0f} | {b / a:.2f} |" for what, (a, b) in rows_of.items()), "",
        f"In pairs, epoch by epoch, a challenger adds {more:,.0f} µs to an interaction, {more / median(us[0]):.2f} times "
        f"what it takes alone; its arrays have {share:.2f} times the bytes of the live model's. `freshet plan` has "
        f"{costs.challenger_us:g} µs, {costs.challenger_us / costs.scored_us:.2f} times, and {costs.challenger_memory:g} times.",
    ]  # fmt: skip


def _cumulated(live: int, challenger: int, events: int) -> tuple[float, float]:
    return live / events, (live + challenger) / events


def _array_bytes(model: Model) -> int:
    return state_bytes(model) - sum(array.nbytes for array in (*model.users.names, *model.items.names))


def _page_bytes(model: Model) -> int:
    return sum(len(page) for page in all_pages(model).values())


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.challengers")
    parser.add_argument("--streams", default="movietweetings,globo-news")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    lines: list[str] = []
    for stream in given.streams.split(","):
        lines += lines_of(stream, given.rows)
        print("\n".join(lines), flush=True)
    command = f"{parser.prog} --streams {given.streams} --rows {given.rows}"
    given.out.write_text(page_of("What a challenger costs", f"{__doc__}", command, lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
