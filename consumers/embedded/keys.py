"""Keys of an embedded log's database, every number big-endian so that byte order is offset order.

t/<topic>                        the topic's settings
i/<topic>                        its id, made with it: a topic of the same name in another log has another
w/<topic>                        the application whose epochs write to it
e/<topic>/<partition>            the next offset
r/<topic>/<partition><offset>    a record
g/<application>                  generation of the seat: a larger one fences the smaller, see `EmbeddedCommitter`
p/<application>                  committed positions
s/<application>/<key>            committed state
d/<application>…                 what of it is not in its place yet, see `consumers.storage.checkpoint_pages`
c/<client>                       number and time of the last append of another process, which may ask again
k/<application>                  secret of the seat
"""

from consumers.records import TopicPartition


def state_prefix(application: str) -> bytes:
    """What the keys of an application's state begin with."""
    return b"s/" + application.encode() + b"/"


def redo_prefix(application: str) -> bytes:
    """What the keys of the redo log of an application's state begin with."""
    return b"d/" + application.encode()


def records_prefix(tp: TopicPartition) -> bytes:
    """What the keys of a partition's records begin with; the offset follows."""
    return b"r/" + tp.topic.encode() + b"/" + tp.partition.to_bytes(4, "big")


def end_key(tp: TopicPartition) -> bytes:
    """The key of a partition's end."""
    return b"e/" + tp.topic.encode() + b"/" + tp.partition.to_bytes(4, "big")


def decode_end_key(key: bytes) -> TopicPartition:
    """The partition whose end has this key."""
    return TopicPartition(key[2:-5].decode(), int.from_bytes(key[-4:], "big"))
