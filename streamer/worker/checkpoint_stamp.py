"""When a checkpoint was written."""

import msgspec

from streamer.runtime.clock import SYSTEM_CLOCK, Clock

WRITTEN = b"written"


def written_now(clock: Clock = SYSTEM_CLOCK) -> dict[bytes, bytes | None]:
    """The page that says when a checkpoint was written. Not part of the state: two equal states differ in it."""
    return {WRITTEN: msgspec.msgpack.encode(clock.now_ms())}
