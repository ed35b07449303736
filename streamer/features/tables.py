"""Columns of a recorded stream as the numbers that a model reads, and which of its rows count."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.event_weights import EventWeights
from streamer.features.event_ids import digest_event_id
from tgn.node_index import NodeIndex


def encode_ids(index: NodeIndex, column: pa.ChunkedArray) -> np.ndarray:
    """[N] int32 node indices of a column of ids."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    nodes = np.array(index.encode(encoded.dictionary.to_pylist()), np.int32)
    codes: np.ndarray = encoded.indices.to_numpy()
    return np.asarray(nodes[codes])


def weigh_rows(rows: pa.Table, weights: EventWeights) -> np.ndarray:
    """[N] float32 weight of each interaction; see `EventWeights.of` for one that is refused."""
    if "value" not in rows.column_names or not weights.reads_value:
        types = pc.dictionary_encode(rows["event_type"].combine_chunks())
        by_type = np.array([weights.weigh(name, None) for name in types.dictionary.to_pylist()], np.float32)
        return np.asarray(by_type[types.indices.to_numpy()])
    pairs = zip(rows["event_type"].to_pylist(), rows["value"].to_pylist(), strict=True)
    return np.array([weights.weigh(*pair) for pair in pairs], np.float32)


def retraction_rows(table: pa.Table) -> np.ndarray:
    """[N] bool: which good rows take an interaction back."""
    if "retract" not in table.column_names:
        return np.zeros(len(table), bool)
    wanted = pc.and_(pc.fill_null(table["retract"], False), pc.is_null(table["reason"]))
    return np.asarray(wanted.to_numpy(), bool)


def digest_rows(rows: pa.Table) -> list[bytes | None]:
    """What stands for the event id of each row; None: it has none."""
    if "event_id" not in rows.column_names:
        return [None] * len(rows)
    ids = zip(rows["user_id"].to_pylist(), rows["event_id"].to_pylist(), strict=True)
    return [digest_event_id(user, id_) if user and id_ else None for user, id_ in ids]


def counted_rows(table: pa.Table) -> pa.Table:
    """The good rows that count in the end: each event id of a user once, and none that is taken back."""
    kept = table["reason"].is_null().to_numpy().copy()
    if "event_id" in table.column_names:
        retracts = retraction_rows(table)
        row_of: dict[bytes, int | None] = {}
        for row, digest in enumerate(digest_rows(table)):
            if digest is None or not kept[row]:
                continue
            if retracts[row]:
                before = row_of.get(digest)
                if before is not None:
                    kept[before] = False
                row_of[digest] = None
            elif digest in row_of:
                kept[row] = False
            else:
                row_of[digest] = row
        kept &= ~retracts
    return table if kept.all() else table.filter(pa.array(kept))
