"""`/internal/questions`: where the front opens its line to a worker."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from streamer.asking.question_queue import QuestionQueue
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.endpoints import Endpoint
from streamer.web.workers.answering_line import AnsweringLine
from streamer.web.workers.frames import LINE, PROTOCOL, QUESTIONS_PATH


class QuestionRoutes:
    """Opens lines over which batches of questions are answered."""

    def __init__(self, queue: QuestionQueue, settings: Settings) -> None:
        self._queue, self._settings = queue, settings

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint(QUESTIONS_PATH, "GET", self.open, "admin", status=101)]

    async def open(self, request: Request) -> Response:
        """A line of frames, see `streamer.web.workers.frames`."""
        if LINE not in request.scope.get("extensions", {}):
            headers = {"Upgrade": PROTOCOL, "Connection": "Upgrade"}
            raise ApiError(
                426, "upgrade-required", f"{QUESTIONS_PATH} takes requests to upgrade to {PROTOCOL}", headers=headers
            )
        return _HandOver(AnsweringLine(self._queue, self._settings.max_body_bytes))


class _HandOver(Response):
    """In place of an answer the connection goes to a protocol of its own."""

    def __init__(self, line: AnsweringLine) -> None:
        super().__init__(status_code=101)
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][LINE](self._line)
