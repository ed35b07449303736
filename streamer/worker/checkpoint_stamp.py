"""When a checkpoint was written."""

import time

import msgspec

WRITTEN = b"written"


def written_now() -> dict[bytes, bytes | None]:
    """The page that says when a checkpoint was written. Not part of the state: two equal states differ in it."""
    return {WRITTEN: msgspec.msgpack.encode(int(time.time() * 1000))}
