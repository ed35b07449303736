"""`freshet train`: versions on disk, and what is refused."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import streamer.cli.commands.train
from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions
from streamer.cli.commands.train import MODELS
from streamer.cli.main import main
from streamer.embeddings.registry import TRAINING, NodeVectors, read_version, rotation_onto, versions
from streamer.errors import EmbeddingsDamaged, ProcessEnded
from streamer.settings import Settings
from tests.lazily import lazily, needs
from tests.worlds import checkerboard

pytestmark = needs("torch_geometric", "graph")
torch = lazily("torch")
fit_together = lazily("streamer.embeddings.training:_fit_together")
gather_source = lazily("streamer.embeddings.training_data:gather_source")
HOUR_MS = 3_600_000


@pytest.fixture
def csv(settings: Settings, tmp_path: Path) -> Path:
    """A checkerboard, with a column that is a context."""
    file = tmp_path / "events.csv"
    rows = "".join(
        f"{u},{i},{'buy' if n % 3 else 'view'},{t},{'desk' if n % 2 else 'phone'}\n"
        for n, (u, i, t) in enumerate(checkerboard(users=20, items=20, events=600))
    )
    file.write_text("user_id,item_id,event_type,timestamp,device\n" + rows)
    return file


def train(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Trains a little; gives the manifest."""
    assert main(["train", *map(str, arguments), "--size", "8", "--passes", "3", "--json"]) == 0
    manifest: dict[str, Any] = json.loads(capsys.readouterr().out)
    return manifest


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error."""
    assert main(["train", *map(str, arguments)]) != 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("freshet: ")]
    return line


def test_a_version_has_every_user_and_item_of_the_window(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = train(capsys, "lightgcn", csv, "--multitask")
    users, items = read_version(Path("embeddings"), manifest["version"])
    assert (len(users.ids), len(items.ids)) == (manifest["users"], manifest["items"]) == (20, 20)
    assert users.vector.shape == (20, 8)
    assert np.allclose(np.linalg.norm(users.vector, axis=1), 1, atol=1e-5)
    assert manifest.pop("refused") == {}
    assert versions(Path("embeddings")) == [manifest]


def test_the_same_stream_and_seed_give_the_same_version_byte_for_byte(
    csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, again = (train(capsys, "gcn", csv, "--out", folder) for folder in ("a", "b"))
    assert once == again == train(capsys, "gcn", csv, "--out", "a")
    assert train(capsys, "gcn", csv, "--out", "c", "--seed", "1")["blake2b"] != once["blake2b"]


@pytest.mark.parametrize("model", MODELS)
def test_a_warm_start_begins_from_what_the_version_before_has_learned(
    model: str, csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    middle = pa_csv.read_csv(csv)["timestamp"][300].as_py()
    first = train(capsys, model, csv, "--warm", "--until", middle)
    assert first["work"]["begun"] is None
    second = train(capsys, model, csv, "--warm")
    assert second["work"]["begun"] == first["version"]
    assert second["blake2b"] != train(capsys, model, csv, "--out", "cold")["blake2b"]
    assert train(capsys, model, csv, "--warm", "--resume")["blake2b"] == second["blake2b"]
    assert train(capsys, model, csv, "--warm", "--layers", "4")["work"]["begun"] is None


def test_a_warm_start_takes_over_names_by_id(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    from streamer.embeddings.training_data import list_nodes
    from streamer.embeddings.warm_start import take_over
    from tgn.family.models import MODELS
    from tgn.family.training import read_best_weights

    manifest = train(capsys, "gcn", csv)
    table = read_interactions(csv)
    later = pa.concat_tables([table.slice(0, 1).set_column(0, "user_id", [["new"]]), table])
    version, source = Path("embeddings") / manifest["version"], gather_source(later, EventWeights({}))
    kind, name = list_nodes(source)
    encoder = MODELS["gcn"](len(name), 8)
    random = encoder.name.weight.detach().clone()
    take_over(encoder, version, source)
    weights = read_best_weights(load_file(version / TRAINING))
    assert (name[0], kind[0]) == ("new", "user")
    assert torch.equal(encoder.name.weight[0], random[0])
    old = pq.read_table(version / "nodes.parquet").to_pylist()
    for n, node in enumerate(zip(kind[1:], name[1:], strict=True), start=1):
        row = old.index({"kind": node[0], "name": node[1]})
        assert torch.equal(encoder.name.weight[n], weights["name.weight"][row])
    assert torch.equal(encoder.state_dict()["convs.0.lin.weight"], weights["convs.0.lin.weight"])


def test_a_warm_start_with_other_content_is_refused(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file, size in (("two.parquet", 2), ("three.parquet", 3)):
        pq.write_table(pa.table({"item_id": ["i0"], "embedding": [[1.0] * size]}), file)
    fusion = ("lightgcn", csv, "--fusion", "late", "--warm", "--size", "8", "--content")
    train(capsys, *fusion, "two.parquet", "--until", pa_csv.read_csv(csv)["timestamp"][300].as_py())
    assert "was trained with other --content" in refused(capsys, *fusion, "three.parquet")


def test_the_next_version_is_turned_onto_the_one_before(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train(capsys, "lightgcn", csv)
    second = train(capsys, "lightgcn", csv, "--seed", "1")
    assert second["aligned_to"] == first["version"]
    old, new = (read_version(Path("embeddings"), m["version"])[1] for m in (first, second))
    alone = train(capsys, "lightgcn", csv, "--seed", "1", "--out", "alone")
    not_turned = read_version(Path("alone"), alone["version"])[1]
    assert np.sum((new.vector - old.vector) ** 2) < np.sum((not_turned.vector - old.vector) ** 2)
    assert np.allclose(new.vector @ new.vector.T, not_turned.vector @ not_turned.vector.T, atol=1e-5)


def test_items_without_interactions_have_embeddings_by_their_content(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items, vectors = tmp_path / "items.jsonl", tmp_path / "vectors.parquet"
    known = [*(f"i{n}" for n in range(20)), "new"]
    items.write_text(
        "".join(json.dumps({"item_id": id_, "categories": [f"c{n % 2}"]}) + "\n" for n, id_ in enumerate(known))
    )
    pq.write_table(pa.table({"item_id": known, "embedding": [[n % 2, 1 - n % 2] for n in range(21)]}), vectors)
    for content in (("--items", items), ("--content", vectors)):
        manifest = train(capsys, "lightgcn", csv, "--fusion", "late", *content)
        assert "new" in read_version(Path("embeddings"), manifest["version"])[1].ids
    assert "new" not in read_version(Path("embeddings"), train(capsys, "lightgcn", csv)["version"])[1].ids


def test_fusion_and_content_need_each_other(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--items or --content" in refused(capsys, "lightgcn", csv, "--fusion", "late")
    assert "--fusion" in refused(capsys, "lightgcn", csv, "--content", csv)
    pq.write_table(pa.table({"item": ["a"]}), "no.parquet")
    assert "content is item_id and embedding" in refused(
        capsys, "lightgcn", csv, "--fusion", "late", "--content", "no.parquet"
    )


def test_a_rotation_is_found_again() -> None:
    random = np.random.default_rng(0)
    turn, _ = np.linalg.qr(random.normal(size=(4, 4)))
    old = NodeVectors(["a", "b", "c", "d", "e"], random.normal(size=(5, 4)).astype(np.float32))
    new = NodeVectors(old.ids[::-1], (old.vector[::-1] @ turn.T).astype(np.float32))
    assert np.allclose(rotation_onto(new, old), turn, atol=1e-5)
    assert np.allclose(rotation_onto(NodeVectors(["z"], new.vector[:1]), old), np.eye(4))


def test_a_training_goes_on_where_it_was_ended(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(capsys, "lightgcn", csv)
    assert train(capsys, "lightgcn", csv, "--resume")["blake2b"] == whole["blake2b"]
    assert "there is no other" in refused(capsys, "lightgcn", csv, "--resume", "--out", "other")


def test_two_processes_give_one_version_of_the_same_worth(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = train(capsys, "lightgcn", csv, "--out", "one")
    both = train(capsys, "lightgcn", csv, "--out", "two", "--processes", "2")
    assert both["passes"] == alone["passes"]
    assert both["loss"] == pytest.approx(alone["loss"], rel=0.1)
    assert [path.name for path in Path("two").glob("*/rendezvous")] == []


def test_gat_tells_what_each_user_attends_to(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = train(capsys, "gat", csv)
    seen = pq.read_table(Path("embeddings") / manifest["version"] / "attention.parquet")
    chosen = {(u, i) for u, i, _ in checkerboard(users=20, items=20, events=600)}
    rows = seen.to_pylist()
    assert {row["user_id"] for row in rows} == {u for u, _ in chosen}
    assert {row["kind"] for row in rows} >= {"item", "device"}
    assert all((row["user_id"], row["name"]) in chosen for row in rows if row["kind"] == "item")
    assert all(row["name"] in ("desk", "phone") for row in rows if row["kind"] == "device")
    for user in {row["user_id"] for row in rows}:
        weights = [row["weight"] for row in rows if row["user_id"] == user]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) <= 1 + 1e-5
    assert main(["embeddings", "attention", "embeddings", rows[0]["user_id"]]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "█" * 24
    assert first.endswith(f"{rows[0]['kind']} {rows[0]['name']}")


def test_attention_that_is_not_there_is_said(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(capsys, "gcn", csv)
    for arguments, said in ((["nobody"], "has no attention"), ([], "needs a user")):
        assert main(["embeddings", "attention", "embeddings", *arguments]) == 2
        assert said in capsys.readouterr().err
    train(capsys, "gat", csv, "--out", "gat")
    assert main(["embeddings", "attention", "gat", "nobody"]) == 2
    assert "knows no user nobody" in capsys.readouterr().err


def end_all_but_the_first(advance: Callable[[int], None]) -> Any:
    """Trains nothing: waits for the others, who are gone."""
    if torch.distributed.get_rank() > 0:
        os._exit(3)
    torch.distributed.all_reduce(torch.zeros(1))
    raise AssertionError("nobody was waited for")


def test_a_process_that_ends_early_is_told() -> None:
    with pytest.raises(ProcessEnded, match=r"exit code 3 .*--resume"):
        fit_together(end_all_but_the_first, 2, lambda passes: None)


class EndsAsItArrives:
    """Ends the process that it is sent to, which has met no other yet."""

    def __call__(self, advance: Callable[[int], None]) -> Any:
        raise AssertionError("nobody was waited for")

    def __setstate__(self, state: object) -> None:
        os._exit(3)

    def __getstate__(self) -> object:
        return "not empty"


def test_a_process_that_ends_before_it_has_met_the_others_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """gloo itself would wait for it for half an hour."""
    monkeypatch.setattr("streamer.embeddings.training.GRACE_S", 0.5)
    with pytest.raises(ProcessEnded, match=r"exit code 3 \(it was waited for\).*--resume"):
        fit_together(EndsAsItArrives(), 2, lambda passes: None)


def test_the_flags_offer_what_there_is() -> None:
    from tgn.family import fusion, losses, models, negatives

    parser = argparse.ArgumentParser()
    streamer.cli.commands.train.add_arguments(parser)
    offered = {action.dest: tuple(action.choices or ()) for action in parser._actions}
    there = (tuple(models.MODELS), losses.LOSSES, negatives.DRAWS, fusion.FUSIONS)
    assert tuple(offered[what] for what in ("model", "loss", "negatives", "fusion")) == there


def test_a_window_leaves_the_rest_out(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = max(t for _, _, t in checkerboard(users=20, items=20, events=600)) + 1
    manifest = train(capsys, "gcn", csv, "--window", "1h")
    assert (manifest["since_ms"], manifest["until_ms"]) == (end - HOUR_MS, end)
    inside = [t for _, _, t in checkerboard(users=20, items=20, events=600) if end - HOUR_MS <= t]
    assert manifest["interactions"] == len(inside) < 600


def test_what_cannot_be_trained_on_is_refused_in_one_line(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--reach got '3 weeks': a number and s, m, h or d" in refused(capsys, "gcn", csv, "--reach", "3 weeks")
    assert "a part of the graph has no sessions" in refused(capsys, "session", csv, "--parts", "2")
    with pytest.raises(SystemExit):
        main(["train", "gcn", str(csv), "--passes", "0"])
    assert "'0' is no whole number from 1 on" in capsys.readouterr().err
    assert "there is no interaction from" in refused(capsys, "gcn", csv, "--until", "0")
    if not torch.cuda.is_available():
        assert "torch finds no GPU here" in refused(capsys, "gcn", csv, "--device", "cuda")
    empty = tmp_path / "empty.csv"
    empty.write_text("user_id,item_id,event_type,timestamp\nu,i,dislike,5\n")
    assert "there is no interaction to train on" in refused(capsys, "gcn", empty)


def test_a_damaged_version_is_named(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = train(capsys, "gcn", csv)["version"]
    file = Path("embeddings") / version / "items.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EmbeddingsDamaged, match=r"items\.parquet is not what its manifest names"):
        read_version(Path("embeddings"), version)
    (Path("embeddings") / version / "manifest.json").unlink()
    with pytest.raises(EmbeddingsDamaged, match="its training did not end"):
        read_version(Path("embeddings"), version)


def test_contexts_and_attributes_become_kinds_of_nodes(csv: Path, tmp_path: Path) -> None:
    from consumers.files.interactions import read_interactions, read_items, read_users

    items, users = tmp_path / "items.csv", tmp_path / "users.csv"
    items.write_text("item_id,categories,device,lat,lon\ni1,drama|war,tv,1.0,2.0\ni2,war,radio,1.0,3.0\n")
    users.write_text("user_id,age\nu1,20\nu2,30\nnever,40\n")
    source = gather_source(read_interactions(csv), EventWeights({}), list(read_items(items)), list(read_users(users)))
    kinds = {a.kind: (a.of, a.names) for a in source.attributes}
    assert kinds["device"] == ("interaction", ["phone", "desk"])
    assert kinds["category"] == ("item", ["drama", "war"])
    assert kinds["item device"] == ("item", ["tv", "radio"])
    assert kinds["age"] == ("user", ["20", "30", "40"])
    assert "never" in source.users.ids
    assert source.kinds == ["view", "buy"]


def test_the_real_streams_have_the_context_nodes_that_they_should(stream: Any) -> None:
    from consumers.files.interactions import read_interactions, read_items

    film = stream("movietweetings")
    source = gather_source(read_interactions(film), EventWeights({}), list(read_items(film.with_name("items.parquet"))))
    assert {a.kind: len(a.names) for a in source.attributes}["category"] == 25
    clicks = gather_source(read_interactions(stream("deskdrop")), EventWeights({}))
    assert {"device", "region", "country", "event_type", "season"} == {a.kind for a in clicks.attributes}
