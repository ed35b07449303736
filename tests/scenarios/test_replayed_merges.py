"""A topic whose sessions became users', replayed: the graph and the lists are the worker's."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from consumers.event_weights import EventWeights
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.engine.engine import Engine
from streamer.evaluation.reordering import all_rows, between
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.features.topic_table import owned_rows, read_topic
from streamer.settings import Settings
from tests.canonical import canonical
from tests.lazily import lazily
from tests.scenarios.test_merges import go_on, interaction, merge, run, visit
from tests.scenarios.test_worker import lists_of

gather_source = lazily("streamer.embeddings.training_data:gather_source")


def play(log: OwnedLog) -> None:
    """Two sessions of one user, one of them of a session before; one that another user claims too."""
    visit(log, "s")
    log.append([interaction("early", n, 110_000 + 1_000 * n) for n in range(4)])
    log.append([merge("s", "early"), merge("u3"), merge("u4"), merge("s", "u3"), merge("fresh", "later", {"0": 138})])
    go_on(log, "s")  # at the offsets 74 to 134
    log.append([interaction("later", n, 300_000 + 1_000 * n) for n in range(6)])
    log.append([merge("u3")])  # again


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_a_replay_comes_to_the_graph_and_the_lists_of_the_worker(
    log: OwnedLog, settings: Settings, tmp_path: Path, chunk: int | None
) -> None:
    play(log)
    worker = run(log, settings)
    table, merges = read_topic(log, "interactions", settings)
    assert len(merges) == 6
    engine = Engine(settings)
    options = ReplayOptions(last_lists_out=tmp_path / "last", merges=merges, chunk=chunk)
    result = replay(table, settings, options, engine=engine)
    assert canonical(engine.model) == canonical(worker.state.engine.model)
    last = {row["user_id"]: row["items"] for row in pq.read_table(tmp_path / "last").to_pylist()}
    assert last.keys() == lists_of(log).keys()
    assert {"s", "early", "later"}.isdisjoint(last)
    assert (result.merged, dict(result.dead)) == (3, {"other-user": 1})


def test_an_interaction_of_a_session_is_taken_back_from_its_owner(log: OwnedLog, settings: Settings) -> None:
    visit(log, "s")
    log.append([merge("u3")])
    log.append([interaction("s", 2, 102_000)])  # sent again
    value = json.loads(interaction("s", 2, 102_000).value or b"") | {"retract": True}
    log.append([NewRecord("interactions", b"s", json.dumps(value).encode())])
    worker = run(log, settings)
    table, merges = read_topic(log, "interactions", settings)
    engine = Engine(settings)
    result = replay(table, settings, ReplayOptions(merges=merges), engine=engine)
    assert canonical(engine.model) == canonical(worker.state.engine.model)
    assert (result.duplicates, result.merged) == (1, 1)
    assert result.retractions
    assert result.retractions.taken_back == 1


def test_a_part_of_a_topic_knows_whose_sessions_are(log: OwnedLog, settings: Settings) -> None:
    play(log)
    table, merges = read_topic(log, "interactions", settings)
    rows = between(all_rows(table), 150_000, None)
    engine = Engine(settings)
    result = replay(rows.table, settings, ReplayOptions(merges=merges, number=rows.number), engine=engine)
    assert result.merged == 3
    assert {"s", "early"}.isdisjoint(canonical(engine.model)["users"])


def test_a_training_has_the_interactions_of_a_session_as_its_owner_s(log: OwnedLog, settings: Settings) -> None:
    play(log)
    worker = run(log, settings)
    source = gather_source(owned_rows(*read_topic(log, "interactions", settings)), EventWeights(settings.event_weights))
    ids = [source.users.ids[user] for user in source.events.user.tolist()]
    assert {user: ids.count(user) for user in set(ids)} == {
        user: len(worker.state.ledger.entries(node))
        for node, user in enumerate(worker.state.engine.model.users.ids)
        if len(worker.state.ledger.entries(node))
    }


def test_the_command(log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    play(log)
    log.close()
    for more in ([], ["--stale", "10"]):
        assert main(["replay", "interactions", "--log", str(settings.log), "--json", *more]) == 0
        assert json.loads(capsys.readouterr().out)["merged"] == 3
