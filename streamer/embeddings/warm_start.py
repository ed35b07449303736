"""A warm start: a training begins from what the version before has learned, so that a refit takes seconds.

FOLDER/<version>/nodes.parquet   kind, name: the nodes in the order of the names in training.safetensors
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from streamer.embeddings.registry import TRAINING, versions
from streamer.embeddings.training_data import Source, list_nodes
from streamer.errors import UsageError
from tgn.family.encoder import Encoder
from tgn.family.training import read_best_weights

FILE = "nodes.parquet"
SHAPE = ("model", "size", "layers", "skip", "fusion")  # two trainings that agree in these have the same weights


def write_nodes(folder: Path, source: Source) -> None:
    """Writes which nodes the names of a training are of, into the folder of its version."""
    kind, name = list_nodes(source)
    pq.write_table(pa.table({"kind": kind, "name": name}), folder / FILE)


def begun_from(folder: Path, work: Mapping[str, Any], until: int) -> str | None:
    """The newest version of what came before `until` that a training can begin from; None: there is none.

    work: what it is to train, by the names of `streamer.embeddings.training.Work`.
    """
    alike = [
        manifest["version"]
        for manifest in versions(folder)
        if manifest["until_ms"] < until
        and all(manifest["work"][name] == work[name] for name in SHAPE)
        and (folder / manifest["version"] / FILE).is_file()
    ]
    return alike[-1] if alike else None


def take_over(encoder: Encoder, version: Path, source: Source) -> None:
    """Gives the encoder the weights of a version; a node that is not there keeps its random name.

    Raises UsageError where its content was of another size.
    """
    learned = read_best_weights(load_file(version / TRAINING))
    names = learned.pop(next(name for name in learned if name.endswith("name.weight")))
    table = pq.read_table(version / FILE)
    row = {node: n for n, node in enumerate(zip(*(table[c].to_pylist() for c in ("kind", "name")), strict=True))}
    rows = torch.tensor([row.get(node, -1) for node in zip(*list_nodes(source), strict=True)])
    known = rows >= 0
    with torch.no_grad():
        encoder.name.weight[known] = names[rows[known]]
    try:
        encoder.load_state_dict(learned, strict=False)
    except RuntimeError as error:
        raise UsageError(f"--warm: {version.name} was trained with other --content; train anew, without it") from error
