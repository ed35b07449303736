"""The models of the family by name."""

from tgn.family.encoder import Encoder
from tgn.family.gat import GAT
from tgn.family.gcn import GCN
from tgn.family.lightgcn import LightGCN
from tgn.family.pinsage import PinSage
from tgn.family.session import SessionGraph

MODELS: dict[str, type[Encoder]] = {
    "lightgcn": LightGCN,
    "gcn": GCN,
    "gat": GAT,
    "pinsage": PinSage,
    "session": SessionGraph,
}
