"""Questions answered over HTTP: by a worker, or where none can make a list by the last one that was published."""

import json
import logging
from typing import Any

from starlette.responses import Response

from streamer.asking.questions import Answer, ListQuestion, Question
from streamer.web.answers import ApiError
from streamer.web.materialized_view import View
from streamer.web.shown_lists import titled
from streamer.web.workers.askers import Asker, NobodyAnswers, NoWorkers

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
            if not self._may_be_published(question):
                raise _nobody(error) from None
            published = self._published(question)
            if published is not None:
                return Answer(200, json.dumps(published).encode())
            if isinstance(error, NoWorkers):
                raise ApiError(404, "no-list", "there is no list for this user yet", headers=AGAIN) from None
            raise _nobody(error) from None

    async def each(self, question: Question) -> dict[str, Answer]:
        """See `Asker.ask_each`."""
        return await self._asker.ask_each(question)

    def _may_be_published(self, question: ListQuestion) -> bool:
        """Whether the last published list can be the answer: a filter, another surface, and what anybody would get,
        need a worker."""
        if self._view is None or question.user_id is None or question.surface not in ("default", self._view.surface):
            return False
        return question.filter is None and question.personalize

    def _published(self, question: ListQuestion) -> dict[str, Any] | None:
        """The last published list of a user, marked, without the items that the question does not want."""
        if self._view is None or question.user_id is None:
            return None
        value = self._view.list_of(question.user_id)
        if value is None:
            return None
        listed = titled(self._view, value)
        excluded = set(question.exclude)
        allowed = None if question.candidates is None else set(question.candidates)
        items = [
            item
            for item in listed["items"]
            if item["item_id"] not in excluded and (allowed is None or item["item_id"] in allowed)
        ]
        age = {}
        if (made_ms := (listed.get("as_of") or {}).get("timestamp")) is not None:
            age["age_ms"] = max(0, self._view.feed.stream_now_ms() - made_ms)
        return {**listed, "items": items[: question.k], "stale": True, **age}


def _nobody(error: NobodyAnswers) -> ApiError:
    """Addresses of workers stay in the log of this process."""
    _logger.debug("a question has no answer: %s", error)
    message = str(error) if isinstance(error, NoWorkers) else "no worker answers at the moment; ask again"
    return ApiError(503, "no-worker", message, headers=AGAIN)


def response_of(answer: Answer) -> Response:
    """An answer as it is."""
    return Response(answer.body, answer.status, media_type="application/json")
