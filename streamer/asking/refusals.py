"""Why a question has no answer, as the body that says so."""

import msgspec

from streamer.asking.questions import Answer

_encode = msgspec.json.Encoder().encode


class QuestionRefused(Exception):
    """What a question is answered with instead of a result.

    Args:
        status: the HTTP status: 400 where the question is wrong, 404 where nothing is known of what it names.
        code: what went wrong, for programs; stable.
        message: one line for people.
        field: the field of the question that is wrong.
    """

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field

    def answer(self) -> Answer:
        """The answer that says so."""
        told = {"code": self.code, "message": str(self), "field": self.field}
        return Answer(self.status, _encode({"error": {name: text for name, text in told.items() if text is not None}}))
