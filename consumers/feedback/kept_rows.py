"""What of lists and feedback is kept for the join, and under which key. Times are event times, epoch ms.

Every key is a kind, 16 bytes for the user and 16 for what it is about: an erasure deletes what begins with the user.
Sums of a group have the group in the place of the user, and stay as totals do.
"""

from hashlib import blake2b
from typing import Any, Literal

import msgspec

MICRO = 1_000_000
"""Amounts are integers, millionths of one: they add up to the same in any order."""
LISTS, MARKS, HISTORIES, SUMS, WAITING, IDS, GROUPS = b"l", b"k", b"h", b"u", b"w", b"i", b"g"
OF_A_USER = (LISTS, MARKS, HISTORIES, SUMS, WAITING, IDS)

Kind = Literal["impression", "click", "conversion", "engagement", "return"]


class KeptPlace(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an item stood: what results are told apart by. `place` counts from 1; 0: the list as a whole.

    `group`: whom the user of the list was dealt with, "": alone.
    """

    surface: str
    arm: str
    place: int = 0
    source: str = ""
    reason: str = ""
    group: str = ""


class KeptList(msgspec.Struct, frozen=True, array_like=True):
    """A list that left. `at_ms`: when it was made; `group`: whom its user was dealt with, "": alone."""

    at_ms: int
    surface: str
    arm: str
    items: list[str]
    sources: list[str]
    reasons: list[str]
    group: str = ""

    def place_of(self, item_id: str | None) -> KeptPlace | None:
        """Where an item stands in it; None: it does not. Without an item the list as a whole."""
        if item_id is None:
            return KeptPlace(self.surface, self.arm, group=self.group)
        if item_id not in self.items:
            return None
        return self.place(self.items.index(item_id) + 1)

    def place(self, place: int) -> KeptPlace:
        """The place of this number, from 1."""
        return KeptPlace(self.surface, self.arm, place, self.sources[place - 1], self.reasons[place - 1], self.group)


class Marks(msgspec.Struct, array_like=True):
    """Which places of a list were shown, and which were clicked: each counts once."""

    shown: list[int]
    clicked: list[int]


class Touch(msgspec.Struct, frozen=True, array_like=True):
    """A click on an item of a list."""

    at_ms: int
    list_id: str
    place: KeptPlace


class Gain(msgspec.Struct, frozen=True, array_like=True):
    """A conversion. `amount`: its value in millionths; `quoted`: the list that it quotes, at the time that was made."""

    at_ms: int
    amount: int
    quoted: Touch


class ItemHistory(msgspec.Struct, array_like=True):
    """What a user did with an item on lists."""

    touches: list[Touch]
    gains: list[Gain]


class ArmSums(msgspec.Struct, array_like=True):
    """What a user, or a group that is dealt together, adds to an arm, by the counts of totals.

    `people`: how many of the group anything is counted of; None: it is a user. `since`: the window of the first list
    that the user had in the arm, by its place in the log. `before`: the same counts on the surface, in the windows
    before that one; an arm cannot have changed them.
    """

    sums: list[int]
    before: list[int]
    since: int = -1
    people: int | None = None


class UserSums(msgspec.Struct, array_like=True):
    """What a user adds to results. `arms`: by surface, arm, and group where there is one; `recent`: surface → window →
    counts."""

    arms: dict[str, ArmSums]
    recent: dict[str, dict[int, list[int]]]


def digest(text: str) -> bytes:
    """16 bytes in the place of an id of any length."""
    return blake2b(text.encode(), digest_size=16).digest()


def of_user(kind: bytes, user: bytes, about: str = "") -> bytes:
    """The key of one kind of what is kept of a user, by digest."""
    return kind + user + digest(about)


def packed(row: Any) -> bytes:
    """As it is stored."""
    return msgspec.msgpack.encode(row)
