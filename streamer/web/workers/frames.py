"""What the front and a worker say on the line between them: frames of a 4-byte length and msgpack.

The front opens the line with a request for `/internal/questions` that asks for the protocol `freshet-questions`; from
the worker's 101 on both send frames. Questions are in JSON, as their models write and check them.
"""

import asyncio
from collections.abc import Callable, Iterator

import msgspec

QUESTIONS_PATH, PROTOCOL = "/internal/questions", "freshet-questions"
LINE = "freshet.line"
"""The extension of ASGI by which an application takes a connection over; its value is called with a `HandedOver`."""
QUESTIONS_A_FRAME = 100
MAX_FRAME_BYTES = 64 << 20
_SIZE = 4


class HandedOver(asyncio.Protocol):
    """What a connection of the server goes to. `when_lost`: called at its end; `shutdown`: the server ends."""

    when_lost: Callable[[], None]

    def shutdown(self) -> None:
        raise NotImplementedError


class QuestionFrame(msgspec.Struct, array_like=True):
    """Questions asked together. `number`: of the frame, which the answer repeats; `questions`: a JSON array."""

    number: int
    questions: bytes


class AnswerFrame(msgspec.Struct, array_like=True):
    """The status and the body of each answer, in the order of the questions."""

    number: int
    answers: list[tuple[int, bytes]]


_encode = msgspec.msgpack.Encoder().encode


def frame_of(message: QuestionFrame | AnswerFrame) -> bytes:
    """A message as it goes over the line."""
    data = _encode(message)
    return len(data).to_bytes(_SIZE, "big") + data


class FrameBuffer:
    """Collects what comes until frames are whole."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit, self._held = limit, bytearray()

    def frames(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole with `data`. Raises ValueError for one that is longer than the limit."""
        self._held += data
        first = 0
        while len(self._held) - first >= _SIZE:
            size = int.from_bytes(self._held[first : first + _SIZE], "big")
            if size > self._limit:
                raise ValueError(f"a frame of {size:,} bytes; {self._limit:,} at most")
            if len(self._held) - first - _SIZE < size:
                break
            yield bytes(self._held[first + _SIZE : first + _SIZE + size])
            first += _SIZE + size
        del self._held[:first]
