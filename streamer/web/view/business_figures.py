"""What lists bring, as `freshet run feedback` says it."""

import math
from collections import OrderedDict
from typing import Any

import msgspec

from consumers.decode_fields import UNDECODABLE
from consumers.schemas import Business

MOST_KEPT, MOST_CHARACTERS = 1_000, 200
_decode = msgspec.json.Decoder(Business).decode


class BusinessFigures:
    """The newest figures by key, those that moved last."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[bytes, Business] = OrderedDict()

    def note(self, key: bytes, value: bytes | None) -> bool:
        """Takes a record of the topic of quality; False where it is none of these."""
        if value is None:
            self._by_key.pop(key, None)
            return True
        try:
            figure = _decode(value)
        except UNDECODABLE:
            return False
        numbers = (figure.value or 0.0, figure.numerator, figure.denominator, *figure.squares, *figure.before)
        if not all(map(math.isfinite, numbers)) or len(key) > MOST_CHARACTERS:
            return False
        self._by_key[key] = figure
        self._by_key.move_to_end(key)
        while len(self._by_key) > MOST_KEPT:
            self._by_key.popitem(last=False)
        return True

    def clear(self) -> None:
        """Forgets all of them."""
        self._by_key.clear()

    def results(self) -> list[Business]:
        """All of them."""
        return list(self._by_key.copy().values())

    def shown(self) -> list[dict[str, Any]]:
        """As `/v1/status` has them, by surface, arm and metric."""
        return [msgspec.to_builtins(figure) for _, figure in sorted(self._by_key.copy().items())]
