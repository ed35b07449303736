"""What the breakdown of a stream says of its events."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamer.evaluation.segments import earlier
from tests.benchmarks import breakdown, records
from tests.benchmarks.streams import Stream
from tests.worlds import table_of


def test_the_pool_holds_what_was_seen_before_and_parts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "world.parquet"
    rng = np.random.default_rng(0)
    events = [(f"u{rng.integers(40)}", f"i{rng.integers(120)}", n * 60_000) for n in range(1_500)]
    pq.write_table(table_of(events), file)
    monkeypatch.setattr(Stream, "file", lambda self, scratch: file)
    stream = Stream("world", "", ("--exclude-seen", "--learn-until", "0.0"), (), ("hr@10",), (0,), (0,))
    trace, pooled = breakdown.trace_of(stream)
    late = (trace.event >= 600) & (trace.rank >= 0)
    # scored whole, by weights that are sure of nothing
    assert pooled[trace.rank >= 0].tolist() == (earlier(trace.item) > 0)[trace.rank >= 0].tolist()
    rows = breakdown.rows_of(trace, pooled, first_measured=600)
    whole = rows[""]["all"]
    assert whole["pool"] == pooled[late].mean()
    assert whole["hr@10"] == ((trace.rank > 0) & (trace.rank <= 10))[late].mean()
    for group in rows.values():
        for figure in ("pool", "hr@1", "hr@100"):
            assert sum(row["share"] * row[figure] for row in group.values()) == pytest.approx(whole[figure])
    begun = breakdown.beginning(trace)
    assert begun["hr@10 freshet"] == pytest.approx(
        ((trace.rank > 0) & (trace.rank <= 10))[trace.rank >= 0][:1_000].mean()
    )
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    records.save("breakdown.deskdrop", {"of": "deskdrop", "rows": rows, "beginning": begun})
    assert f"| all | 1.0000 | {whole['pool']:.4f} | {whole['hr@1']:.4f} |" in breakdown.render()
