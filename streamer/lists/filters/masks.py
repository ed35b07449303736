"""Masks of filters, kept for as long as they are true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from streamer.lists.filters.compiled import Filter, HasColumns

if TYPE_CHECKING:  # who reads rules loads no kernels
    from tgn.graph import U8

MOST_MASKS = 64  # of filters that are kept


class Asked(NamedTuple):
    """What conditions are about, beside items."""

    now_ms: int  # the stream's clock
    user: Mapping[str, Any]
    context: Mapping[str, Any]


class FilterMasks:
    """What filters let pass of a catalogue. What reads items alone is kept until an item changes or one comes."""

    def __init__(self, catalogue: HasColumns) -> None:
        self._catalogue = catalogue
        self._of: tuple[int, int, int] = (-1, -1, -1)  # version of the columns, rows, items
        self._masks: dict[str, U8] = {}  # those asked for longest ago come first

    def mask(self, filter_: Filter, asked: Asked) -> U8:
        """[I] 1 where an item passes."""
        if not filter_.item_only:
            return filter_.mask(self._catalogue, *asked)
        columns = self._catalogue.columns
        of = columns.version, columns.rows(), columns.known()
        if of != self._of:
            self._of, self._masks = of, {}
        mask = self._masks.pop(filter_.text, None)
        if mask is None:
            mask = filter_.mask(self._catalogue, asked.now_ms, {}, {})
        self._masks[filter_.text] = mask
        if len(self._masks) > MOST_MASKS:
            del self._masks[next(iter(self._masks))]
        return mask
