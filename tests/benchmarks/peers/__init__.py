"""The peers by name. Imported on demand: some need packages of the extra `bench` or `graph`."""

from importlib import import_module
from importlib.util import find_spec

from streamer.evaluation.peers.contract import Peer, World

PEERS = {  # name → module, class; cheap ones first
    "decayed-popularity": ("streamer.evaluation.peers.popularity", "DecayedPopularity"),
    "last-item": ("streamer.evaluation.peers.last_item", "LastItem"),
    "edgebank": ("streamer.evaluation.peers.edgebank", "EdgeBank"),
    "edgebank-window": ("streamer.evaluation.peers.edgebank", "EdgeBankWindow"),
    "isgd": (f"{__name__}.isgd", "ISGD"),
    "item-knn": ("streamer.evaluation.peers.item_knn", "ItemKNN"),
    "als": (f"{__name__}.als", "ALS"),
    "gru4rec": (f"{__name__}.gru4rec", "GRU4Rec"),
    "sasrec": (f"{__name__}.sasrec", "SASRec"),
    "tgn": (f"{__name__}.tgn", "TGN"),
}
NEEDS = {"als": "implicit", "gru4rec": "torch", "sasrec": "torch", "tgn": "torch_geometric"}
MOST_EVENTS = {"tgn": 500_000}  # of a stream; at TGN's measured speed a million take more than a quarter of an hour


def missing(name: str) -> str | None:
    """Why a peer cannot run here, or None."""
    package = NEEDS.get(name)
    return f"{name} needs the package {package}" if package and find_spec(package) is None else None


def make_peer(name: str, world: World, **sizes: object) -> Peer:
    """A fresh peer; `sizes` override those of its constructor."""
    module, cls = PEERS[name]
    peer: Peer = getattr(import_module(module), cls)(world, **sizes)
    return peer
