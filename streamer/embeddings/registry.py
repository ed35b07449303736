"""Versions of trained embeddings in a folder: one folder each, with a manifest that is written last.

    FOLDER/<version>/users.parquet      user_id, embedding: list<float>[D]
    FOLDER/<version>/items.parquet      item_id, embedding
    FOLDER/<version>/attention.parquet      of a model that has any: `streamer.embeddings.attention_export`
    FOLDER/<version>/training.safetensors   what `freshet train --resume` goes on from
    FOLDER/<version>/manifest.json      what it was made of and how, and the digest of each file
    FOLDER/current                      the version that workers are to use, and those before it

A folder without a manifest is of a training that did not end, and no version.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamer.errors import EmbeddingsDamaged, UsageError
from streamer.runtime.whole_files import whole_file

MANIFEST, TRAINING, CURRENT = "manifest.json", "training.safetensors", "current"
OFF = ""  # the version without vectors
FILES = {"user": "users.parquet", "item": "items.parquet"}


class NodeVectors(NamedTuple):
    """The embeddings of one side."""

    ids: list[str]  # [N]
    vector: np.ndarray  # [N, D] float32


class Current(msgspec.Struct, frozen=True):
    """What workers are to use. `shadow`: once it is measured beside the one before; see `streamer.worker.shadow`."""

    version: str = OFF
    shadow: bool = False
    before: list[str] = []  # oldest first


def current(folder: Path) -> Current:
    """What workers are to use now. Raises EmbeddingsDamaged."""
    try:
        return msgspec.json.decode((folder / CURRENT).read_bytes(), type=Current)
    except FileNotFoundError:
        return Current()
    except msgspec.DecodeError as error:
        raise EmbeddingsDamaged(
            f"{folder / CURRENT}: {error}; write it anew with "
            f"`freshet embeddings use {shlex.quote(str(folder))} VERSION`"
        ) from error


def use(folder: Path, version: str, shadow: bool = False) -> Current:
    """Makes `version` the one that workers are to use; what was damaged is written anew."""
    try:
        now = current(folder)
    except EmbeddingsDamaged:
        now = Current()
    before = now.before if version == now.version else [*now.before, now.version]
    return _write_current(folder, Current(version, shadow, before))


def roll_back(folder: Path) -> Current:
    """Makes the version before the current one what workers are to use. Raises UsageError where there is none."""
    now = current(folder)
    if not now.before:
        raise UsageError(f"there is no version before the current one of {folder}")
    return _write_current(folder, Current(now.before[-1], False, now.before[:-1]))


def _write_current(folder: Path, current: Current) -> Current:
    part = folder / f"{CURRENT}.part"
    part.write_bytes(msgspec.json.encode(current))
    part.rename(folder / CURRENT)
    return current


def versions(folder: Path) -> list[dict[str, Any]]:
    """The manifests of a folder, oldest first, by `until_ms`, then by name."""
    found = [json.loads(file.read_text("utf-8")) for file in folder.glob(f"*/{MANIFEST}")]
    return sorted(found, key=lambda manifest: (manifest["until_ms"], manifest["version"]))


def write_version(folder: Path, manifest: Mapping[str, Any], users: NodeVectors, items: NodeVectors) -> dict[str, Any]:
    """Writes (1) the vectors, (2) the manifest, which makes them a version; gives the manifest.

    `manifest["version"]` is its name. What an earlier training left there is replaced.
    """
    place = folder / str(manifest["version"])
    place.mkdir(parents=True, exist_ok=True)
    for side, vectors in (("user", users), ("item", items)):
        write_vectors(place / FILES[side], f"{side}_id", vectors)  # (1)
    digests = {name: _digest(place / name) for name in FILES.values()}
    whole = {**manifest, "size": users.vector.shape[1], "blake2b": digests}
    part = place / f"{MANIFEST}.part"
    part.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    part.rename(place / MANIFEST)  # (2)
    return whole


def write_vectors(file: Path, ids: str, vectors: NodeVectors) -> None:
    """Writes a Parquet file of two columns, `ids` and embedding."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.vector.ravel()), vectors.vector.shape[1])
    with whole_file(file) as part:
        pq.write_table(pa.table({ids: vectors.ids, "embedding": column}), part)


def read_version(folder: Path, version: str) -> tuple[NodeVectors, NodeVectors]:
    """The vectors of users and of items. Raises EmbeddingsDamaged where they are not what the manifest names."""
    place = folder / version
    if not (place / MANIFEST).is_file():
        raise EmbeddingsDamaged(f"{place} has no {MANIFEST}: its training did not end; train again or take another one")
    manifest = json.loads((place / MANIFEST).read_text("utf-8"))
    sides = []
    for side, name in FILES.items():
        if not (place / name).is_file() or _digest(place / name) != manifest["blake2b"][name]:
            raise EmbeddingsDamaged(f"{place / name} is not what its manifest names; train again or take another one")
        table = pq.read_table(place / name)
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        sides.append(NodeVectors(table[f"{side}_id"].to_pylist(), flat.reshape(len(table), manifest["size"])))
    return sides[0], sides[1]


def rotation_onto(new: NodeVectors, old: NodeVectors) -> np.ndarray:
    """[D, D] the rotation that brings `new` nearest to `old` where both have an id (Schönemann 1966).

    Inner products stay what they are; what reads single coordinates sees no jump from one version to the next.
    """
    place = {id_: n for n, id_ in enumerate(old.ids)}
    both = [(n, place[id_]) for n, id_ in enumerate(new.ids) if id_ in place]
    if not both or new.vector.shape[1] != old.vector.shape[1]:
        return np.eye(new.vector.shape[1], dtype=np.float32)
    mine, theirs = (np.array(column) for column in zip(*both, strict=True))
    left, _, right = np.linalg.svd(new.vector[mine].T.astype(np.float64) @ old.vector[theirs])
    return np.asarray(left @ right, np.float32)


def named(version_of: Sequence[object]) -> str:
    """Eight hex digits that stand for what a version was made of."""
    return hashlib.blake2b(repr(version_of).encode(), digest_size=4).hexdigest()


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
