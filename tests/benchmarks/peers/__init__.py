"""The peers by name. Imported on demand: some need packages of the extra `bench` or `graph`."""

from importlib import import_module
from importlib.util import find_spec

from tests.benchmarks.peers.contract import Peer, World

PEERS = {  # name → module, class; cheap ones first
    "decayed-popularity": ("popularity", "DecayedPopularity"),
    "last-item": ("last_item", "LastItem"),
    "edgebank": ("edgebank", "EdgeBank"),
    "edgebank-window": ("edgebank", "EdgeBankWindow"),
    "isgd": ("isgd", "ISGD"),
    "item-knn": ("item_knn", "ItemKNN"),
    "als": ("als", "ALS"),
    "gru4rec": ("gru4rec", "GRU4Rec"),
    "sasrec": ("sasrec", "SASRec"),
    "tgn": ("tgn", "TGN"),
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
    peer: Peer = getattr(import_module(f"{__name__}.{module}"), cls)(world, **sizes)
    return peer
