"""The rank of each measured event, kept beside what the judge says, so that two versions are compared event by event."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamer.evaluation.paired_intervals import compare_ranks, discordance
from tests.benchmarks import records
from tests.benchmarks.protocol import first_measured_of, read_events
from tests.benchmarks.streams import Stream

BEFORE, COMMIT = "before", b"commit"


def ranks_of(stream: Stream, interactions: Path, lists: Path) -> pa.Table:
    """event, user, rank (from 1, 0: not in its list) of the events that the judge measures, as it does."""
    events = read_events(interactions)
    first = first_measured_of(stream, events.t)
    made = pq.read_table(lists, columns=["event", "items"], filters=pc.field("event") >= first)
    listed = dict(zip(made["event"].to_pylist(), made["items"], strict=True))
    tgb, unseen = "--tgb" in stream.judge, "--no-repeat" in stream.judge
    seen: set[tuple[int, int]] = set()
    together: dict[tuple[int, int], set[str]] = {}
    user, item, t = events.user.tolist(), events.item.tolist(), events.t.tolist()
    for n in range(len(events)) if tgb else ():
        together.setdefault((user[n], t[n]), set()).add(events.items[item[n]])
    rows = []
    for n in range(len(events)):
        if n >= first and not (unseen and (user[n], item[n]) in seen):
            names, mine = listed[n].as_py() if n in listed else [], events.items[item[n]]
            if tgb:
                others = together[user[n], t[n]] - {mine}
                names = [name for name in names if name not in others] if others else names
            rows.append((n, user[n], names.index(mine) + 1 if mine in names else 0))
        seen.add((user[n], item[n]))
    return pa.table(dict(zip(("event", "user", "rank"), map(pa.array, zip(*rows, strict=True)), strict=True)))


def keep(stream: Stream, row: str, ranks: pa.Table) -> None:
    """Keeps ranks in place of those of this commit; what an earlier commit left is kept as the version before."""
    file = _file(stream, row)
    if file.is_file() and _commit(file) != records.commit():
        file.replace(_file(stream, row, BEFORE))
    pq.write_table(ranks.replace_schema_metadata({COMMIT: records.commit().encode()}), file)


def against(stream: Stream, row: str, other: str, which: str = "") -> records.Record | None:
    """What `row` is against another row, or its own of before, event by event; None where those ranks are not kept."""
    mine, theirs = _file(stream, row), _file(stream, other, which)
    if not (mine.is_file() and theirs.is_file()):
        return None
    now, then = (pq.read_table(file) for file in (mine, theirs))
    if now["event"] != then["event"]:
        return None
    k = int(stream.flag("--k") or 20)
    a, b, user = (column.to_numpy() for column in (then["rank"], now["rank"], now["user"]))
    differences = {
        d.metric: {"difference": d.difference, "low": d.low, "high": d.high, "verdict": d.verdict}
        for d in compare_ranks(a, b, user, k)
    }
    return {"commit": _commit(theirs), "differences": differences, **discordance(a, b, k)._asdict()}


def in_words(found: records.Record, metric: str) -> str:
    """The difference of a metric with its interval, and McNemar of the hits."""
    d = found["differences"][metric]
    return (
        f"{d['difference']:+.4f} ({d['low']:+.4f} to {d['high']:+.4f}), {d['verdict']}; hits lost {found['only_a']:,}, "
        f"won {found['only_b']:,}, McNemar's p {found['p']:.2g}"
    )


def _file(stream: Stream, row: str, which: str = "") -> Path:
    return records.FOLDER / ".".join([stream.name, row, *([which] if which else []), "ranks", "parquet"])


def _commit(file: Path) -> str:
    return (pq.read_schema(file).metadata or {}).get(COMMIT, b"").decode()
