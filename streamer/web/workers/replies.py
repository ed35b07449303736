"""Questions answered over HTTP: by a worker, or where none can make a list by the last one that was published."""

import logging

import msgspec
from starlette.responses import Response

from streamer.asking.questions import Answer, ListQuestion, Question
from streamer.web.answers import ApiError
from streamer.web.materialized_view import View
from streamer.web.workers.askers import Asker, NobodyAnswers, NoWorkers
from streamer.web.workers.published import published_list, published_may_answer

_logger = logging.getLogger(__name__)
AGAIN = {"Retry-After": "1"}


class Replies:
    """Has questions answered, and makes responses of the answers.

    `view`: of published lists; None where there is none.
    """

    def __init__(self, asker: Asker, view: View | None) -> None:
        self._asker, self._view = asker, view

    async def response(self, question: Question) -> Response:
        """What a worker answers. Raises ApiError 503 where nobody does."""
        return response_of(await self.answer(question))

    async def answer(self, question: Question) -> Answer:
        """The same, for who makes something else of it."""
        try:
            return await self._asker.ask(question)
        except NobodyAnswers as error:
            raise _nobody(error) from None

    async def list_response(self, question: ListQuestion) -> Response:
        """A list. Raises ApiError where there is none."""
        return response_of(await self.list_answer(question))

    async def list_answer(self, question: ListQuestion) -> Answer:
        """The same, for who makes something else of it."""
        try:
            return await self._asker.ask(question)
        except NobodyAnswers as error:
            if self._view is None or not published_may_answer(question, self._view.surface):
                raise _nobody(error) from None
            listed = published_list(self._view, question)
            if listed is not None:
                return Answer(200, msgspec.json.encode(listed))
            if isinstance(error, NoWorkers):
                raise ApiError(404, "no-list", "there is no list for this user yet", headers=AGAIN) from None
            raise _nobody(error) from None

    async def each(self, question: Question) -> dict[str, Answer]:
        """See `Asker.ask_each`."""
        return await self._asker.ask_each(question)


def _nobody(error: NobodyAnswers) -> ApiError:
    """Addresses of workers stay in the log of this process."""
    _logger.debug("a question has no answer: %s", error)
    message = str(error) if isinstance(error, NoWorkers) else "no worker answers at the moment; ask again"
    return ApiError(503, "no-worker", message, headers=AGAIN)


def response_of(answer: Answer) -> Response:
    """An answer as it is."""
    return Response(answer.body, answer.status, media_type="application/json")
