"""The real streams as peers take them, by the plan of each; how they are measured is in streamer/evaluation/peers."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamer.evaluation.peers.measuring import PeerEvents as Events
from streamer.evaluation.peers.measuring import PeerLists as Measured
from streamer.evaluation.peers.measuring import PeerPlan as Plan
from streamer.evaluation.peers.measuring import prequential, world_of
from tests.benchmarks.streams import Stream

__all__ = ["Events", "Measured", "Plan", "plan_of", "prequential", "read_events", "world_of", "write_lists"]

MEASURED_SHARE = 0.2


def read_events(path: Path) -> Events:
    """A file of interactions in stable time order, as the judge numbers them.

    Users and items are numbered in the order of their ids' UTF-8 bytes.
    """
    table = pq.read_table(path, columns=["user_id", "item_id", "timestamp"])
    t = table["timestamp"].to_numpy()
    order = np.argsort(t, kind="stable")
    user, users = _indices(table["user_id"])
    item, items = _indices(table["item_id"])
    return Events(user[order], item[order], t[order], users, items)


def _indices(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    ids = coded.dictionary.to_pylist()
    order = sorted(range(len(ids)), key=lambda n: ids[n])  # code points sort as their UTF-8 bytes do
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return place[coded.indices.to_numpy()], [ids[n] for n in order]


def plan_of(stream: Stream, events: Events) -> Plan:
    """The plan of a stream's flags. Where weights are frozen, the first fit is at that time quantile."""
    learn_until = stream.flag("--learn-until")
    first_measured = first_measured_of(stream, events.t)
    return Plan(
        k=int(stream.flag("--k") or 20),
        exclude_seen=stream.flag("--exclude-seen") is not None,
        measured_from=first_measured,
        fit_at=_at_time_quantile(events.t, float(learn_until)) if learn_until else first_measured,
        frozen=learn_until is not None,
        stale=int(stream.flag("--stale") or 1),
    )


def first_measured_of(stream: Stream, t: np.ndarray) -> int:
    """Number of the first event that the judge measures."""
    if "--after-time-quantile" in stream.judge:
        return _at_time_quantile(t, float(stream.judge[stream.judge.index("--after-time-quantile") + 1]))
    if "--after" in stream.judge:
        return int(len(t) * float(stream.judge[stream.judge.index("--after") + 1]))
    return int(len(t) * (1 - MEASURED_SHARE))


def _at_time_quantile(t: np.ndarray, quantile: float) -> int:
    """Number of the first event later than the quantile."""
    return int((t <= np.quantile(t, quantile)).sum())


def write_lists(path: Path, measured: Measured, events: Events, plan: Plan) -> None:
    """Parquet of `event`, `items` for the judge: the measured events only."""
    sizes = [len(items) for items in measured.lists]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    listed = pa.DictionaryArray.from_arrays(
        pa.array(np.concatenate(measured.lists).astype(np.int32)), pa.array(events.items, pa.string())
    )
    numbers = pa.array(np.arange(plan.measured_from, plan.measured_from + len(sizes)))
    lists = pa.ListArray.from_arrays(offsets, listed.cast(pa.string()))
    pq.write_table(pa.table({"event": numbers, "items": lists}), path)
