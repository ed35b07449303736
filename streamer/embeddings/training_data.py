"""From a file or topic of interactions, and files of items and users, to what a graph is built from."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.errors import DataRefused
from consumers.event_weights import EventWeights
from consumers.files.parquet import read_parquet
from consumers.schemas import Item, User
from streamer.embeddings.content_vectors import item_vectors
from streamer.features.contexts import context_columns
from streamer.features.item_content import as_texts, gather_attributes, read_coordinates
from streamer.features.tables import counted_rows, encode_ids, weigh_rows
from tgn.family.hetero import ITEM, USER, Attribute, Events, derive_season
from tgn.family.view import numbered
from tgn.graph import F32
from tgn.node_index import NodeIndex

MOST_VALUES = 1_000  # a column with more distinct values says who, not what kind
PLACE_DEGREES = 0.01  # about a kilometre: the side of a cell of the grid that latitudes and longitudes become
_NO_CONTEXT = {"user_id", "item_id", "timestamp", "value", "event_id", "session_id", "reason", "retract", "context"}


class Source(NamedTuple):
    """What happened, and what is known of whom; indices are those of `users` and `items`."""

    users: NodeIndex
    items: NodeIndex
    events: Events
    kinds: list[str]  # the event types by index
    attributes: list[Attribute]


def gather_source(
    table: pa.Table, weights: EventWeights, items: Iterable[Item] = (), users: Iterable[User] = ()
) -> Source:
    """Reads a table of `read_interactions`; bad rows, and those whose weight is no liking, are left out.

    Raises DataRefused where nothing is left.

    Context nodes: categories and attributes of items and users, the columns of the table that have few values (device,
    region, event_type, …), and the season.
    """
    good = counted_rows(table)
    weight = weigh_rows(good, weights)
    liked = weight > 0
    good, weight = good.filter(pa.array(liked)), weight[liked]
    if not len(good):
        raise DataRefused("there is no interaction to train on: every row is bad, or of a weight that is no liking")
    user_index, item_index = NodeIndex(), NodeIndex()
    user, item = (encode_ids(index, good[c]) for index, c in ((user_index, "user_id"), (item_index, "item_id")))
    value = np.full(len(good), np.nan, np.float32)
    if "value" in good.column_names:
        value = good["value"].to_numpy().astype(np.float32)
    kinds = NodeIndex()
    kind, t = encode_ids(kinds, good["event_type"]), good["timestamp"].to_numpy()
    user, item, t, kind = (column.astype(np.int64) for column in (user, item, t, kind))
    events = Events(user=user, item=item, t=t, weight=weight, value=value, kind=kind)
    attributes = [*_contexts(good), derive_season(events)]
    attributes += _of_nodes(
        "item", item_index, ((i.item_id, gather_attributes(i) | _cell(i.attributes or {})) for i in items)
    )
    told = ((u.user_id, u.attributes or {}) for u in users)
    attributes += _of_nodes("user", user_index, ((id_, as_texts(known) | _cell(known)) for id_, known in told))
    return Source(
        users=user_index, items=item_index, events=events, kinds=kinds.ids, attributes=_distinct_names(attributes)
    )


def list_nodes(source: Source) -> tuple[list[str], list[str]]:
    """The kind and the name of every node, as a view numbers them."""
    names = {USER: source.users.ids, ITEM: source.items.ids}
    names |= {attribute.kind: attribute.names for attribute in source.attributes}
    kinds = numbered(names)
    return [kind for kind in kinds for _ in names[kind]], [name for kind in kinds for name in names[kind]]


def make_content(source: Source, items: Sequence[Item]) -> F32:
    """[I, C] vectors of what records of items say (`streamer.embeddings.content_vectors`); each item gets a node."""
    vectors, _ = item_vectors(items)
    return _filled(source, dict(zip(source.items.encode([i.item_id for i in items]), vectors, strict=True)))


def content_file(source: Source, file: Path) -> F32:
    """[I, C] vectors by whatever model, out of Parquet of item_id and embedding. Raises DataRefused."""
    table = read_parquet(file, file)
    if not {"item_id", "embedding"} <= set(table.column_names):
        raise DataRefused(f"{file} has {', '.join(table.column_names)}; content is item_id and embedding")
    try:
        vectors = [np.asarray(vector, np.float32) for vector in table["embedding"].to_pylist()]
    except (ValueError, TypeError) as error:
        raise DataRefused(f"{file}: an embedding is a list of numbers: {error}") from error
    if not all(vector.ndim == 1 and np.isfinite(vector).all() for vector in vectors):
        raise DataRefused(f"{file}: an embedding is a list of finite numbers; one is not")
    sizes = {vector.shape for vector in vectors}
    if len(sizes) != 1:
        raise DataRefused(f"{file}: embeddings of {len(sizes)} sizes; one is needed")
    ids = [str(id_) for id_ in table["item_id"].to_pylist()]
    return _filled(source, dict(zip(source.items.encode(ids), vectors, strict=True)))


def _filled(source: Source, known: Mapping[int, np.ndarray]) -> F32:
    content = np.zeros((len(source.items), len(next(iter(known.values())))), np.float32)
    for item, vector in known.items():
        content[item] = vector
    return content


def _contexts(table: pa.Table) -> list[Attribute]:
    found = []
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for name, column in (context_columns(table) | columns if "context" in columns else columns).items():
        if name in _NO_CONTEXT or pa.types.is_nested(column.type):
            continue
        column = column.cast(pa.string())
        if 1 < pc.count_distinct(column).as_py() <= MOST_VALUES:
            names, there = NodeIndex(), np.flatnonzero(pc.is_valid(column).to_numpy())
            value = encode_ids(names, column.drop_null()).astype(np.int64)
            found.append(Attribute(kind=name, of="interaction", owner=there, value=value, names=names.ids))
    return found


def _cell(attributes: Mapping[str, Any]) -> dict[str, list[str]]:
    """The cell of a grid that a node lies in, where it lies anywhere."""
    place = read_coordinates(attributes)
    return {"place": [",".join(f"{x // PLACE_DEGREES * PLACE_DEGREES:.2f}" for x in place)]} if place else {}


def _of_nodes(
    side: Literal["user", "item"], index: NodeIndex, known: Iterable[tuple[str, Mapping[str, list[str]]]]
) -> list[Attribute]:
    """Attributes of the nodes; those of nodes that never interacted make these known too."""
    rows: dict[str, tuple[list[int], list[int], dict[str, int]]] = {}
    for id_, attributes in known:
        (node,) = index.encode([id_])
        for name, values in attributes.items():
            owners, codes, names = rows.setdefault(name, ([], [], {}))
            for value in values:
                owners.append(node)
                codes.append(names.setdefault(value, len(names)))
    return [
        Attribute(
            kind=name, of=side, owner=np.array(owners, np.int64), value=np.array(codes, np.int64), names=list(names)
        )
        for name, (owners, codes, names) in rows.items()
        if 1 < len(names) <= MOST_VALUES
    ]


def _distinct_names(attributes: list[Attribute]) -> list[Attribute]:
    """The same, an attribute of a name that another one has, or a side, named after its owner too."""
    taken: set[str] = {"user", "item"}
    named = []
    for attribute in attributes:
        kind = attribute.kind if attribute.kind not in taken else f"{attribute.of} {attribute.kind}"
        taken.add(kind)
        named.append(attribute._replace(kind=kind))
    return named
