"""The ranks that the bench keeps are those that the judge measures, and versions are compared by them."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from streamer.evaluation.replay import ReplayOptions, replay
from streamer.monitoring.prequential_quality import scores
from streamer.settings import Settings
from tests import conftest
from tests.benchmarks import ranks, records
from tests.benchmarks.judge import JUDGE, judge
from tests.benchmarks.streams import TGB, Stream
from tests.worlds import checkerboard, table_of

RULES = {"all": (), "unseen": ("--no-repeat",), "tgb": TGB}


@pytest.mark.parametrize("rule", RULES)
def test_ranks_are_those_of_the_judge_and_versions_are_paired(
    rule: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not JUDGE.is_file():
        conftest.missing("the judge, ../shared/tools/score_lists.py, is not on this machine")
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    events = [(user, item, t // 300_000) for user, item, t in checkerboard(users=60, items=60, events=3_000)]
    stream = Stream("world", "", ("--k", "20"), RULES[rule], ("hr@10",), (0,), (0,))
    table, file, lists = table_of(events), tmp_path / "events.parquet", tmp_path / "lists.parquet"
    pq.write_table(table, file)
    found = []
    for seed, commit in enumerate(("one", "one", "two")):
        monkeypatch.setattr(records, "commit", lambda commit=commit: commit)
        mine = settings.model_copy(update={"k": 20, "exclude_seen": rule == "unseen", "seed": seed})
        replay(table, mine, ReplayOptions(lists_out=lists))
        verdict, of = judge(stream, file, lists), ranks.ranks_of(stream, file, lists)
        assert len(of) == verdict["events"]
        means = scores(of["rank"].to_numpy()).mean(axis=0)
        assert means == pytest.approx([verdict["hr@10"], verdict["ndcg@10"], verdict["mrr"]], abs=1e-5)
        found.append(means[0])
        assert ranks.against(stream, "freshet", "freshet", ranks.BEFORE) is None  # nothing of another commit yet
        ranks.keep(stream, "freshet", of)
    paired = ranks.against(stream, "freshet", "freshet", ranks.BEFORE)
    assert paired is not None
    assert paired["commit"] == "one"
    assert paired["differences"]["hr@10"]["difference"] == pytest.approx(found[2] - found[1])
    assert paired["only_b"] - paired["only_a"] == pytest.approx((found[2] - found[1]) * len(of))
    assert "McNemar's p" in ranks.in_words(paired, "hr@10")
