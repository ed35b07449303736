"""A record of the topic of lists, as the join keeps it."""

import msgspec

from consumers.decode_fields import UNDECODABLE, ListTime
from consumers.feedback.kept_rows import KeptList
from consumers.records import Record

NO_ARM = "none"
_CAUSED = ("often chosen right after", "often chosen along with")  # what follows them in a reason is an item


class _Arm(msgspec.Struct):
    name: str
    arm: str
    group: str = ""


class _PlacedItem(msgspec.Struct, gc=False):
    item_id: str
    source: str = ""
    reason: str = ""


class _AsOfTime(msgspec.Struct):
    timestamp: ListTime


class LeftList(msgspec.Struct):
    """What of a list that left is looked at."""

    list_id: str
    items: list[_PlacedItem]
    as_of: _AsOfTime
    surface: str = "default"
    user_id: str | None = None
    experiment: _Arm | None = None

    def row(self) -> KeptList:
        """What of it is kept."""
        return KeptList(
            at_ms=self.as_of.timestamp,
            surface=self.surface,
            arm=NO_ARM if self.experiment is None else f"{self.experiment.name}:{self.experiment.arm}",
            items=[item.item_id for item in self.items],
            sources=[item.source for item in self.items],
            reasons=[_without_cause(item.reason) for item in self.items],
            group="" if self.experiment is None else self.experiment.group,
        )


_list = msgspec.json.Decoder(LeftList)


def left_list(record: Record) -> LeftList | None:
    """The list in a record; None: whoever wrote it did not write a list."""
    try:
        return _list.decode(record.value or b"")
    except UNDECODABLE:
        return None


def _without_cause(reason: str) -> str:
    return next((words for words in _CAUSED if reason.startswith(words)), reason)
