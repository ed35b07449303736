"""External ids and node indices: append-only, one index for life. The bytes stand in arrays for the kernels' ties."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tgn.graph import I64, U8
from tgn.kernel import kernel


class Names(NamedTuple):
    """UTF-8 bytes of every id, one after the other: id n is text[start[n]:start[n + 1]]."""

    text: U8  # [bytes]
    start: I64  # [capacity + 1]


@kernel
def name_before(names: Names, a: int, b: int) -> bool:
    """Whether id a comes before id b by its UTF-8 bytes."""
    ia, ib = names.start[a], names.start[b]
    end_a, end_b = names.start[a + 1], names.start[b + 1]
    while ia < end_a and ib < end_b:
        if names.text[ia] != names.text[ib]:
            return names.text[ia] < names.text[ib]
        ia += 1
        ib += 1
    return end_a - ia < end_b - ib


class NodeIndex:
    """id ↔ index. Indices are given in order of first sight and never change.

    Args:
        ids: distinct ids in the order of their indices; "" for one that was forgotten.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.ids = list(ids)
        self._index = {id_: node for node, id_ in enumerate(self.ids) if id_}
        self.saved = 0  # how many of them the last checkpoint holds
        self.blocks: list[int] = []  # the first index of each block of ids in the checkpoint
        self.names = Names(np.zeros(1024, np.uint8), np.zeros(1025, np.int64))
        self._append_names(self.ids, 0)

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, id_: str) -> int | None:
        """The index of an id, None where it has none."""
        return self._index.get(id_)

    def encode(self, ids: Sequence[str]) -> list[int]:
        """The index of each id; an id seen for the first time gets the next one."""
        index = self._index
        found = list(map(index.get, ids))
        if None in found:
            new = list(dict.fromkeys(id_ for id_, node in zip(ids, found, strict=True) if node is None))
            index.update(zip(new, range(len(self.ids), len(self.ids) + len(new)), strict=True))
            self.ids += new
            self._append_names(new, len(self.ids) - len(new))
        return [index[id_] if node is None else node for id_, node in zip(ids, found, strict=True)]

    def forget(self, node: int) -> None:
        """Takes the id of a node away; the index is not given again, and the id gets another one if it comes back."""
        del self._index[self.ids[node]]
        self.ids[node] = ""
        self.names.text[self.names.start[node] : self.names.start[node + 1]] = 0
        self.saved = 0  # every block is written again

    def _append_names(self, new: list[str], first: int) -> None:
        encoded = [id_.encode() for id_ in new]
        text, start = self.names
        start = _with_room(start, first + len(new) + 1)
        ends = start[first] + np.cumsum([len(name) for name in encoded], dtype=np.int64)
        end = int(ends[-1]) if new else int(start[first])
        text = _with_room(text, end)
        start[first + 1 : first + 1 + len(new)] = ends
        text[start[first] : end] = np.frombuffer(b"".join(encoded), np.uint8)
        self.names = Names(text, start)


def _with_room(array: np.ndarray, size: int) -> np.ndarray:
    if size <= len(array):
        return array
    grown = np.zeros(max(size, 2 * len(array)), array.dtype)
    grown[: len(array)] = array
    return grown
