"""A real Neo4j follows the log: nothing twice, nothing lost, what was taken back is gone; and a graph is read from it."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import msgspec
import neo4j
import pytest

import consumers.neo4j
from consumers.errors import GraphUnavailable, LogUnavailable, PositionGone
from consumers.event_weights import EventWeights
from consumers.neo4j import GraphStore
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.features.topic_table import read_topic
from streamer.settings import Settings
from streamer.sinks import following
from streamer.sinks.following import Sink
from streamer.sinks.graph import GraphSink, read_graph
from streamer.worker.worker import Worker
from tests.faults.scene import Scene
from tests.faults.test_other_topics import make_anew
from tests.waiting import until
from tests.worlds import checkerboard


@pytest.fixture
def store(neo4j_uri: str) -> Iterator[GraphStore]:
    """An empty database."""
    with neo4j.GraphDatabase.driver(neo4j_uri) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n")
    opened = GraphStore(neo4j_uri, "neo4j", None)
    yield opened
    opened.close()


def ask(uri: str, query: LiteralString) -> list[Any]:
    """The first column of what a query gives."""
    with neo4j.GraphDatabase.driver(uri) as driver:
        return [row.value() for row in driver.execute_query(query).records]


def interaction(user: str, item: str, t: int, **more: Any) -> NewRecord:
    row = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": t} | more
    return NewRecord("interactions", user.encode(), json.dumps(row).encode())


def item(id_: str, **more: Any) -> NewRecord:
    return NewRecord("items", id_.encode(), json.dumps({"item_id": id_} | more).encode())


def to_the_end(sink: Sink) -> None:
    while sink.step(0.1) or not sink.at_end():
        pass
    sink.close()


def test_a_restart_anywhere_leaves_what_the_log_says(
    log: OwnedLog, settings: Settings, store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut in small transactions, one of them broken off half-way, the sink opened anew each time."""
    monkeypatch.setattr(following, "RECORDS_A_TRANSACTION", 70)
    events = checkerboard(users=20, items=20, events=500)
    log.append([item(f"i{n}", title=f"Item {n}", categories=[f"c{n % 3}"]) for n in range(20)])
    log.append([interaction(u, i, t, event_id=str(n)) for n, (u, i, t) in enumerate(events)])
    log.append([interaction(u, i, t, event_id=str(n)) for n, (u, i, t) in enumerate(events[:50])])  # again
    log.append([NewRecord("interactions", b"u1", b"no JSON")])
    for _ in range(2):
        sink = GraphSink(log, store, settings)
        sink.step()
        sink.close()
    before = store.positions(), store.counts()
    with monkeypatch.context() as broken:
        broken.setattr(consumers.neo4j, "_REACH", "RETURN 1 / 0")  # the last statement of a transaction
        with pytest.raises(GraphUnavailable, match="refuses"):
            GraphSink(log, store, settings).step()
    assert (store.positions(), store.counts()) == before
    to_the_end(GraphSink(log, store, settings))
    users, items = {u for u, _, _ in events}, {i for _, i, _ in events}
    counts = dict(store.counts())
    assert counts.pop("Position") == 2  # nobody wrote of users
    assert counts == {"User": len(users), "Item": len(items), "Context": 3, "INTERACTED": 500, "HAS": len(items)}
    to_the_end(GraphSink(log, store, settings))
    assert store.counts()["INTERACTED"] == 500


def test_what_is_taken_back_is_gone_and_stays_gone(
    log: OwnedLog, settings: Settings, store: GraphStore, neo4j_uri: str
) -> None:
    log.append([item("i1", categories=["x", "y"], attributes={"brand": "b"}), item("i2", categories=["x"])])
    log.append([NewRecord("users", b"u1", json.dumps({"user_id": "u1", "attributes": {"age": 24}}).encode())])
    log.append([interaction("u1", "i1", 1, event_id="a"), interaction("u1", "i2", 2), interaction("u2", "i1", 3)])
    log.append([interaction("u2", "i2", 4, event_id="b"), interaction("u2", "i2", 4, event_id="b", retract=True)])
    log.append([interaction("u3", "i2", 5, event_id="c", retract=True), interaction("u3", "i2", 5, event_id="c")])
    log.append([interaction("u9", "i1", 4_000_000_000_000)])  # in the future: the worker refuses it
    to_the_end(GraphSink(log, store, settings))
    assert ask(neo4j_uri, "MATCH (u:User)-[r:INTERACTED]->(i) RETURN u.id + i.id ORDER BY r.t") == [
        "u1i1",
        "u1i2",
        "u2i1",
    ]
    contexts = "MATCH (:Item {id: 'i1'})-[:HAS]->(c) RETURN c.kind + c.value ORDER BY c.value"
    assert ask(neo4j_uri, contexts) == ["brandb", "categoryx", "categoryy"]
    log.append([item("i1", categories=["y"]), NewRecord("users", b"u1", None), NewRecord("items", b"i2", None)])
    log.append([interaction("u4", "i1", 6)])
    to_the_end(GraphSink(log, store, settings))
    assert ask(neo4j_uri, contexts) == ["categoryy"]
    assert ask(neo4j_uri, "MATCH (u:User)-[r:INTERACTED]->(i) RETURN u.id + i.id ORDER BY r.t") == ["u2i1", "u4i1"]
    assert ask(neo4j_uri, "MATCH (c:Context) RETURN c.value") == ["y"]
    assert not ask(neo4j_uri, "MATCH (n) WHERE n.id = 'u1' RETURN n.id")


def test_an_event_id_belongs_to_its_user(log: OwnedLog, settings: Settings, store: GraphStore, neo4j_uri: str) -> None:
    log.append([interaction("u1", "i1", 1, event_id="a"), interaction("u2", "i1", 2, event_id="a")])
    log.append([interaction("u3", "i1", 3, event_id="a", retract=True), interaction("u4", "i1", 4, event_id="a")])
    log.append([interaction("u1", "i2", 5), interaction("u2", "i2", 6)])  # offsets 4, 5
    to_the_end(GraphSink(log, store, settings))
    edges = "MATCH (u:User)-[r:INTERACTED]->(i) RETURN u.id + i.id ORDER BY r.t"
    assert ask(neo4j_uri, edges) == ["u1i1", "u2i1", "u4i1", "u1i2", "u2i2"]
    log.append([interaction("u1", "i2", 5, event_id="@0-4", retract=True)])
    log.append([interaction("u1", "i2", 5, event_id="@0-5", retract=True)])  # somebody else's
    to_the_end(GraphSink(log, store, settings))
    assert ask(neo4j_uri, edges) == ["u1i1", "u2i1", "u4i1", "u2i2"]


def test_the_graph_of_an_older_version_goes_on(
    log: OwnedLog, settings: Settings, store: GraphStore, neo4j_uri: str
) -> None:
    """Its edges are keyed by the bare event id, or by where the record lies."""
    log.append([interaction("u1", "i1", 1, event_id="a"), interaction("u1", "i2", 2)])
    to_the_end(GraphSink(log, store, settings))
    ask(neo4j_uri, "MATCH ()-[r:INTERACTED]->() SET r.key = coalesce(r.event_id, 'interactions/0/1') RETURN 1")
    log.append([interaction("u1", "i1", 1, event_id="a"), interaction("u2", "i1", 3, event_id="a")])
    to_the_end(GraphSink(log, store, settings))
    edges = "MATCH (u:User)-[r:INTERACTED]->(i) RETURN u.id + i.id ORDER BY r.t"
    assert ask(neo4j_uri, edges) == ["u1i1", "u1i2", "u2i1"]
    log.append([interaction("u1", "i", 1, event_id=id_, retract=True) for id_ in ("a", "@0-1")])
    to_the_end(GraphSink(log, store, settings))
    assert ask(neo4j_uri, edges) == ["u2i1"]


def test_who_reads_the_log_anew_does_not_bring_back_the_erased(
    log: OwnedLog, settings: Settings, store: GraphStore, neo4j_uri: str
) -> None:
    log.append([interaction("u1", "i1", 1), interaction("u2", "i1", 2)])
    log.append([NewRecord("users", b"u1", None)])
    batches = GraphSink(log, store, settings)
    to_the_end(batches)
    with neo4j.GraphDatabase.driver(neo4j_uri) as driver:
        driver.execute_query("MATCH (p:Position) WHERE p.topic = 'interactions' DELETE p")
    to_the_end(GraphSink(log, store, settings))
    assert ask(neo4j_uri, "MATCH (u:User) RETURN u.id") == ["u2"]


def edges(store: GraphStore) -> list[str]:
    return sorted(f"{row['user']} {row['item']}" for row in store.interactions())


@pytest.mark.kafka
@pytest.mark.usefixtures("store")
def test_a_topic_that_was_made_anew_is_not_passed_over(
    kafka_bootstrap: str, neo4j_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two runs and in the middle of one. What has no id of its own lies where another one lay."""
    scene = Scene(tmp_path, f"n{uuid4().hex[:8]}", kafka_bootstrap)
    scene.create()
    stops = scene.settings
    goes_on = stops.model_copy(update={"on_position_gone": "earliest"})
    anew = f"the topic {stops.interactions_topic} was deleted and made anew"

    def send(*rows: NewRecord) -> None:
        scene.send([msgspec.structs.replace(row, topic=stops.interactions_topic) for row in rows])

    def made_anew(*rows: NewRecord) -> None:
        make_anew(scene, stops.interactions_topic, 1)
        send(*rows)

    send(interaction("u1", "i1", 1), interaction("u2", "i1", 1))
    send(interaction("u2", "i1", 1, event_id="@0-1", retract=True))
    own = GraphStore(neo4j_uri, "neo4j", None, stops.interactions_topic)
    with closing(scene.open()) as log, closing(own) as store:
        to_the_end(GraphSink(log, store, stops))
        made_anew(*(interaction(f"u{n}", "i2", 1) for n in (1, 2, 3, 4)))
        with pytest.raises(PositionGone, match=f"{anew}; set on_position_gone"):
            GraphSink(log, store, stops)
        assert edges(store) == ["u1 i1"]
        sink = GraphSink(log, store, goes_on)
        assert f"{anew}: going on at its first record" in caplog.text
        while not sink.at_end() or sink.step(0.1):
            sink.step(0.1)
        assert edges(store) == ["u1 i1", "u1 i2", "u2 i2", "u3 i2", "u4 i2"]

        made_anew(*(interaction(f"u{n}", "i3", 1) for n in range(1, 7)))
        with closing(sink), pytest.raises(LogUnavailable, match=f"{anew}; opening it again"):
            until(lambda: sink.step(0.1) < 0)
        caplog.clear()
        to_the_end(GraphSink(log, store, goes_on))
        assert f"{anew}: going on at its first record" in caplog.text
        assert [edge for edge in edges(store) if "i3" in edge] == [f"u{n} i3" for n in range(1, 7)]

        with closing(GraphSink(log, store, stops)) as sink:
            made_anew(*(interaction(f"u{n}", "i4", 1) for n in range(1, 8)))
            with pytest.raises(PositionGone, match=f"{anew}; set on_position_gone"):
                until(lambda: sink.step(0.1) < 0)


def merge(user: str, session: str) -> NewRecord:
    return NewRecord("interactions", user.encode(), json.dumps({"merge": session, "upto": {"0": 0}}).encode())


@pytest.mark.parametrize("at_once", [2, 5_000])
def test_what_a_session_did_is_its_owner_s(
    log: OwnedLog, settings: Settings, store: GraphStore, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """As the worker has it, however the log is cut into transactions."""
    monkeypatch.setattr(following, "RECORDS_A_TRANSACTION", at_once)
    log.append([interaction("s", "i1", 1, event_id="a"), interaction("s", "i2", 2), interaction("u", "i3", 3)])
    log.append([interaction("first", "i4", 4, event_id="b"), interaction("gone", "i5", 5), interaction("t", "i6", 6)])
    log.append([merge("s", "first"), merge("u", "s"), merge("v", "s"), merge("s", "u"), merge("u", "s")])
    log.append([merge("erased", "gone"), interaction("gone", "i7", 7)])
    log.append([interaction("s", "i1", 1, event_id="a"), interaction("s", "i8", 8, event_id="c")])  # one is sent again
    log.append([interaction("s", "i9", 9, event_id="d"), interaction("first", "i0", 10, event_id="e")])
    log.append([NewRecord("users", b"t", b'{"user_id": "t", "age": 3}'), merge("u", "t")])
    log.append([interaction("s", "i", 11, event_id="d", retract=True)])
    log.append(
        [interaction("u", "i", 12, event_id="e", retract=True), interaction("t", "i", 1, event_id="@0-1", retract=True)]
    )
    to_the_end(GraphSink(log, store, settings))
    with closing(Worker.open(log, settings)) as worker:
        worker.run(exit_at_end=True)
    assert edges(store) == sorted(
        f"{user} {worker.state.engine.model.items.ids[item]}"
        for node, user in enumerate(worker.state.engine.model.users.ids)
        for item in worker.state.ledger.entries(node)["item"].tolist()
    )
    assert edges(store) == ["erased i5", "erased i7", "u i1", "u i3", "u i4", "u i6", "u i8"]
    log.append([NewRecord("users", b"erased", None), NewRecord("users", b"u", None)])
    to_the_end(GraphSink(log, store, settings))  # so that what comes is later than the erasures
    log.append([interaction("x", "i1", 13), merge("x", "y"), merge("u", "x")])
    to_the_end(GraphSink(log, store, settings))
    assert edges(store) == ["u i1"]


def test_the_graph_that_is_read_is_that_of_the_log(log: OwnedLog, settings: Settings, store: GraphStore) -> None:
    gather_source = pytest.importorskip(
        "streamer.embeddings.training_data", reason="the extra `graph` is not installed"
    ).gather_source
    log.append([item(f"i{n}", title=f"Item {n}", attributes={"lat": 1.5, "lon": n}) for n in range(20)])
    log.append([
        interaction(u, i, t, value=n % 5, session_id="s", context={"device": f"d{n % 3}", "position": n})
        for n, (u, i, t) in enumerate(checkerboard(users=20, items=20, events=300))
    ])  # fmt: skip
    to_the_end(GraphSink(log, store, settings))
    table, items, _ = read_graph(store)
    assert table.to_pylist() == read_topic(log, "interactions", settings).table.to_pylist()
    assert items[0].attributes == {"lat": 1.5, "lon": 0}
    known = gather_source(table, EventWeights(settings.event_weights), items)
    assert {attribute.kind for attribute in known.attributes} >= {"device", "place"}


def test_commands_fill_a_graph_and_train_on_it(
    log: OwnedLog, store: GraphStore, neo4j_uri: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_geometric", reason="the extra `graph` is not installed")
    log.append([interaction(u, i, t) for u, i, t in checkerboard(users=20, items=20, events=300)])
    log.close()
    assert main(["sink", neo4j_uri, "--log", str(settings.log), "--exit-at-end"]) == 0
    assert json.loads(capsys.readouterr().out)["INTERACTED"] == 300
    assert main(["train", "lightgcn", neo4j_uri, "--size", "8", "--passes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["interactions"] == 300


def test_a_database_that_is_not_there_is_said_in_one_line(
    log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    log.close()
    assert main(["sink", "bolt://127.0.0.1:1", "--log", str(settings.log)]) == 1
    assert "bolt://127.0.0.1:1 cannot be reached" in capsys.readouterr().err
