"""Records on the interactions topic that say that a session was a user's: validated, or a dead letter."""

from typing import Any

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import Refused, Unframe, id_field, id_of_key, object_fields
from consumers.records import Record
from consumers.schemas import Merge

MAX_PARTITIONS = 1_000_000


def decode_merge(record: Record, unframe: Unframe | None = None) -> Merge | DeadLetter | None:
    """The merge in a record, why it cannot be taken, or None where it says nothing of one.

    The user is named by the value, or by the key alone.

    >>> record = Record("interactions", 0, 7, b"ann", b'{"merge": "s-1", "upto": {"2": 40}}', (), 1000)
    >>> decode_merge(record)
    Merge(user_id='ann', merge='s-1', upto={'2': 40})
    """
    try:
        fields = object_fields(record.value or b"", unframe)
        if fields.get("merge") is None or fields.get("item_id") is not None:
            return None
    except Refused:
        return None
    try:
        user = id_of_key(record.key, unframe) if fields.get("user_id") is None else id_field(fields, "user_id")
        merge = Merge(user_id=user, merge=id_field(fields, "merge"), upto=_upto(fields.get("upto")))
        if merge.merge == user:
            raise Refused(Reason.BAD_ID, "merge is the user's own id")
        return merge
    except Refused as refused:
        return DeadLetter(record, refused.reason, refused.message)


def _upto(value: Any) -> dict[str, int]:
    if value is None:
        raise Refused(Reason.MISSING_FIELD, "there is no upto")
    if not isinstance(value, dict):
        raise Refused(Reason.BAD_TYPE, f"upto is a JSON {type(value).__name__}, and not partition: offset")
    found = {}
    for partition, offset in value.items():
        plain = partition.isascii() and partition.isdigit() and str(int(partition[:20])) == partition
        if not plain or int(partition) >= MAX_PARTITIONS:
            raise Refused(Reason.BAD_TYPE, "upto names a partition that is none")
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 1 << 63:
            raise Refused(Reason.BAD_TYPE, "upto names an offset that is none")
        found[partition] = offset
    return found
