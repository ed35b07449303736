"""`/internal/questions`: what the front asks a worker, a batch of questions at a time."""

import logging

import msgspec
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from streamer.asking.question_queue import Reply
from streamer.asking.questions import QUESTIONS, Answer, Question
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.bodies import read_bytes
from streamer.web.endpoints import Endpoint
from streamer.web.parameters import refusal
from streamer.web.workers.askers import NOT_READY, LocalAsker, NobodyAnswers
from streamer.web.workers.line import QUESTIONS_A_REQUEST, QUESTIONS_PATH, AnswerText

_logger = logging.getLogger(__name__)


class QuestionRoutes:
    """Has batches of questions answered."""

    def __init__(self, asker: LocalAsker, settings: Settings) -> None:
        self._asker, self._settings = asker, settings

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint(QUESTIONS_PATH, "POST", self.ask, "admin")]

    async def ask(self, request: Request) -> Response:
        """A JSON array of questions → a JSON array of `{"status", "body"}`, in the same order."""
        body = await read_bytes(request, self._settings.max_body_bytes, self._settings.request_timeout_s)
        try:
            questions = QUESTIONS.validate_json(body)
        except ValidationError as error:
            raise refusal(error, "field") from None
        if len(questions) > QUESTIONS_A_REQUEST:
            raise ApiError(400, "too-many", f"{len(questions)} questions at once; {QUESTIONS_A_REQUEST} at most")
        replies = await self._asker.ask_together(questions)
        answers = map(_answer, questions, replies)
        told = [AnswerText(answer.status, msgspec.Raw(answer.body)) for answer in answers]
        return Response(msgspec.json.encode(told), media_type="application/json")


def _answer(question: Question, reply: Reply) -> Answer:
    """One answer; what befell it is no matter to the others."""
    if isinstance(reply, Answer):
        return reply
    if isinstance(reply, NobodyAnswers):
        error = ApiError(NOT_READY, "not-ready", str(reply))
    else:
        _logger.error("a question of kind %s has no answer", question.kind, exc_info=reply)
        error = ApiError(500, "internal", "this is a fault of the server; its log says more")
    return Answer(error.status, msgspec.json.encode(error.body))
