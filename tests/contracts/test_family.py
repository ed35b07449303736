"""One contract for every model of the graph family: a world with a known answer, and the same rules for all."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from streamer.cli.commands.train import FUSIONS, LOSSES, MODELS, NEGATIVES
from tests.lazily import lazily, needs
from tests.worlds import checkerboard

pytestmark = needs("torch_geometric", "graph")
torch = lazily("torch")
hetero = lazily("tgn.family.hetero")
training = lazily("tgn.family.training")
view_of = lazily("tgn.family.view")
SIZE = 16
QUICK = {"passes": 8, "batch": 250, "drawn": 20, "rate": 0.02, "spectral": False}  # else they know before they learn
ONE_SIDED = pytest.mark.parametrize("model", [name for name in MODELS if name != "session"])  # they embed parts
every = pytest.mark.parametrize("model", MODELS)


@cache
def world() -> Any:
    """A checkerboard: half of the users choose among half of the items only."""
    triples = checkerboard(users=40, items=40, events=2_000)
    users, items = (sorted({triple[side] for triple in triples}) for side in (0, 1))
    columns = ([users.index(u) for u, _, _ in triples], [items.index(i) for _, i, _ in triples])
    user, item = (np.array(column, np.int64) for column in columns)
    t = np.array([t for _, _, t in triples], np.int64)
    events = hetero.Events(
        user, item, t, np.ones(len(t), np.float32), np.full(len(t), np.nan, np.float32), np.arange(len(t)) % 2
    )
    return hetero.hetero_graph(events, len(users), len(items), [hetero.derive_season(events)], until=int(t[-1]) + 1)


def encoder_of(model: str, **layers: Any) -> Any:
    nodes = sum(world()[kind].num_nodes for kind in world().node_types)
    return lazily("tgn.family.models").MODELS[model](nodes, SIZE, **layers)


def trainer_of(model: str, encoder: dict[str, Any] | None = None, **config: Any) -> "training.Trainer":
    torch.manual_seed(0)
    return training.Trainer(
        encoder_of(model, **(encoder or {})), world(), training.TrainingConfig(**{**QUICK, **config})
    )


def test_names_that_are_eigenvectors_know_who_chooses_what() -> None:
    assert trainer_of("lightgcn", spectral=True).recall(trainer_of("lightgcn").held_out) > 0.95


@every
def test_it_tells_what_a_user_chooses_from_what_nobody_like_them_does(model: str) -> None:
    trainer = trainer_of(model)
    before = trainer.recall(trainer.held_out)
    report = trainer.fit()
    assert before < 0.75
    assert max(report.recall) > 0.95
    assert report.loss[-1] < report.loss[0]
    user, item = trainer.embedded()
    assert (user.shape, item.shape) == ((40, SIZE), (40, SIZE))
    assert torch.isfinite(user).all()


@every
def test_the_same_seed_gives_the_same_embeddings(model: str) -> None:
    once, again = trainer_of(model, passes=2), trainer_of(model, passes=2)
    assert once.fit() == again.fit()
    assert torch.equal(once.embedded().item, again.embedded().item)


@every
def test_a_training_that_was_ended_goes_on_as_if_it_had_not_been(model: str) -> None:
    whole_way, first_part = trainer_of(model, passes=4, patience=0), trainer_of(model, passes=2, patience=0)
    whole_way.fit()
    first_part.fit()
    rest = trainer_of(model, passes=4, patience=0)
    rest.load_state(first_part.state())
    assert rest.fit() == whole_way.report
    assert torch.equal(rest.embedded().user, whole_way.embedded().user)


@every
def test_it_trains_on_a_gpu_and_comes_back(model: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    for more in ({}, {"negatives": "hard", "tasks": (1.0, 5.0)}):
        trainer = trainer_of(model, device="cuda", **more)
        assert max(trainer.fit().recall) > 0.9
        assert trainer.embedded().user.device.type == "cpu"


@every
def test_embedding_changes_nothing(model: str) -> None:
    trainer = trainer_of(model, passes=1)
    before = {name: value.clone() for name, value in trainer.encoder.state_dict().items()}
    assert torch.equal(trainer.embedded().item, trainer.embedded().item)
    assert all(torch.equal(value, before[name]) for name, value in trainer.encoder.state_dict().items())


@every
def test_it_can_be_deeper_and_without_skips(model: str) -> None:
    for skip in (True, False):
        trainer = trainer_of(model, {"layers": 4, "skip": skip}, passes=1)
        trainer.fit()
        assert torch.isfinite(trainer.embedded().item).all()


@ONE_SIDED
@pytest.mark.parametrize("less", [{"fan_out": 5}, {"parts": 2}], ids=["fan-out", "partitions"])
def test_it_trains_on_less_than_the_whole_graph(model: str, less: dict[str, int]) -> None:
    report = trainer_of(model, **less).fit()
    assert min(report.loss) < report.loss[0]
    assert max(report.recall) > 0.9 if "fan_out" in less else max(report.recall) > 0.3


@every
def test_what_is_held_out_is_not_in_the_graph_that_is_trained_on(model: str) -> None:
    trainer = trainer_of(model)
    first = int(trainer.history.time[trainer.held_out].min())
    assert torch.equal(
        trainer.view.weight.to_dense(), view_of.whole(world(), view_of.RELATIONS, before=first).weight.to_dense()
    )
    assert trainer.view.weight.values().sum() < view_of.whole(world(), view_of.RELATIONS).weight.values().sum()


def test_sessions_need_the_whole_graph() -> None:
    with pytest.raises(ValueError, match="a part of it has no sessions"):
        trainer_of("session", parts=2).fit()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_every_loss_with_every_draw_of_negatives(loss: str, negatives: str) -> None:
    trainer = trainer_of("lightgcn", loss=loss, negatives=negatives)
    assert max(trainer.fit().recall) > (0.6 if negatives == "hard" else 0.9)


def test_event_types_can_be_tasks_of_their_own() -> None:
    assert max(trainer_of("lightgcn", tasks=(1.0, 5.0)).fit().recall) > 0.9


def test_without_skips_depth_makes_everybody_alike() -> None:
    """Over-smoothing: eight untrained layers bring nodes nearer to one another than two, unless layers are combined."""

    def spread(layers: int, skip: bool) -> float:
        trainer = trainer_of("lightgcn", {"layers": layers, "skip": skip})
        item = torch.nn.functional.normalize(trainer.embedded().item, dim=1)
        return float(1 - (item @ item.T).mean())

    assert spread(8, skip=False) < 0.5 * spread(2, skip=False)
    assert spread(8, skip=True) > 2 * spread(8, skip=False)


def test_gat_shows_its_attention() -> None:
    trainer = trainer_of("gat", passes=1)
    view = view_of.whole(world())
    edges, share = trainer.encoder.attention(view)  # type: ignore[operator]
    total = torch.zeros(len(view.node)).index_add_(0, edges[1], share)
    assert torch.allclose(total[total > 0], torch.ones(1), atol=1e-5)


def test_a_part_keeps_the_names_of_its_nodes() -> None:
    view = view_of.whole(world())
    some = torch.tensor([1, 3, 45, 50])
    assert torch.equal(view_of.part(view, some).node, some)
    dense = view.weight.to_dense()[some][:, some]
    assert torch.equal(view_of.part(view, some).weight.to_dense(), dense)


def fused_trainer(model: str, how: str, content: "torch.Tensor", **config: Any) -> "training.Trainer":
    torch.manual_seed(0)
    encoder = lazily("tgn.family.fusion:fused")(encoder_of(model), content, 40, how)
    return training.Trainer(encoder, world(), training.TrainingConfig(**{**QUICK, **config}))


def sides() -> "torch.Tensor":
    """[40, 2] content that says of each item which half of the users chooses it."""
    even = torch.tensor([item % 2 == 0 for item in numbers("i")])
    return torch.stack([even, ~even], 1).float()


@pytest.mark.parametrize(("model", "how"), [*((m, "early") for m in MODELS), *(("lightgcn", h) for h in FUSIONS[1:])])
def test_content_teaches_what_an_item_is_before_anybody_has_touched_it(model: str, how: str) -> None:
    """The items that are held back have no edge; with content that tells the halves apart they stand with their own."""
    content = sides()
    trainer = fused_trainer(model, how, content)
    report = trainer.fit()
    assert max(report.recall) > 0.95
    again = fused_trainer(model, how, content)
    again.load_state(trainer.state())
    assert torch.equal(again.embedded().item, trainer.embedded().item)
    encoder = trainer.encoder
    of_content = encoder.name.content if how == "early" else encoder.content  # type: ignore[union-attr]
    user = trainer.embedded().user
    with torch.no_grad():
        cold = of_content(torch.arange(40, 80))  # what is left of an item without a name or an edge
    score = torch.nn.functional.normalize(user) @ cold.T
    own = torch.tensor([[u % 2 == i % 2 for i in numbers("i")] for u in numbers("u")])
    assert (score[own].mean() - score[~own].mean()) > 0.05


def numbers(prefix: str) -> list[int]:
    """What the nodes of a side are called, in the order of the nodes."""
    triples = checkerboard(users=40, items=40, events=2_000)
    return [int(name[1:]) for name in sorted({t[prefix == "i"] for t in triples})]
