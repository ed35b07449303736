"""What a model of attention looks at: the heaviest neighbours of each user, kept with a version and drawn as bars.

FOLDER/<version>/attention.parquet   user_id, kind (item, or a kind of context), name, weight; heaviest first
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamer.errors import UsageError
from streamer.runtime.bars import text_bar
from streamer.runtime.whole_files import whole_file

if TYPE_CHECKING:  # torch loads where something is trained
    from streamer.embeddings.training_data import Source
    from tgn.family.training import Trainer

FILE = "attention.parquet"
KEPT = 10  # neighbours of a user


class Neighbour(NamedTuple):
    """One of those that a user attends to."""

    kind: str
    name: str
    weight: float  # share of the user's attention


def write_attention(folder: Path, trainer: "Trainer", source: "Source") -> None:
    """Writes what `trainer` attends to into the folder of its version; nothing where the model has no attention."""
    from streamer.embeddings.training_data import list_nodes
    from tgn.family.gat import GAT
    from tgn.family.hetero import heaviest

    if not isinstance(trainer.encoder, GAT):
        return
    (neighbour, node), weight = (tensor.numpy() for tensor in trainer.encoder.attention(trainer.whole))
    of_user = node < len(source.users)
    neighbour, node, weight = neighbour[of_user], node[of_user], weight[of_user]
    kept = heaviest(node, neighbour, weight, KEPT)
    kind, name = (np.array(column, object) for column in list_nodes(source))
    columns = {
        "user_id": name[node[kept]].tolist(),
        "kind": kind[neighbour[kept]].tolist(),
        "name": name[neighbour[kept]].tolist(),
        "weight": weight[kept],
    }
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / FILE) as part:
        pq.write_table(pa.table(columns), part)


def read_attention(folder: Path, user: str) -> list[Neighbour]:
    """Those that a user attends to in the version of a folder, heaviest first. Raises UsageError."""
    if not (folder / FILE).is_file():
        raise UsageError(
            f"{folder.name} has no attention; `freshet train gat FILE --out {shlex.quote(str(folder.parent))}` "
            "makes a version that has"
        )
    table = pq.read_table(folder / FILE)
    found = table.filter(pc.equal(table["user_id"], user)).drop_columns("user_id").to_pylist()
    if not found:
        raise UsageError(f"{folder.name} knows no user {user}")
    return [Neighbour(**row) for row in found]


def drawn(neighbours: list[Neighbour]) -> str:
    """A bar for each neighbour."""
    longest = neighbours[0].weight
    return "\n".join(f"{n.weight:6.1%} {text_bar(n.weight, longest)} {n.kind} {n.name}" for n in neighbours)
