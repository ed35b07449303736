"""`/v1/recommendations`, and of a user `/recommendations` and `/lists/stream`: lists made now, and as they change."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from streamer.asking.answer_models import AskedList
from streamer.asking.questions import Answer, ListQuestion
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.bodies import one_object, read_body
from streamer.web.endpoints import Endpoint, id_in_path
from streamer.web.event_stream import HEARTBEAT, event_stream, last_event_id
from streamer.web.front_answers import SeveralLists
from streamer.web.limits import Limiter
from streamer.web.materialized_view import View
from streamer.web.parameters import ListParameters, ListRequests, validated
from streamer.web.shown_lists import list_event
from streamer.web.workers.replies import Replies

HEARTBEAT_S = 10.0
_ANYBODYS = ListQuestion.model_validate({})


class ListRoutes:
    """Has lists made for whoever asks."""

    def __init__(self, replies: Replies, settings: Settings) -> None:
        self._replies, self._settings = replies, settings

    def endpoints(self) -> list[Endpoint]:
        """Every path and method, those of before too."""
        of_user = self.recommendations
        return [
            Endpoint(
                "/v1/users/{user_id:id}/recommendations", "GET", of_user, "read", ListParameters,
                answer=AskedList,
            ),
            Endpoint(
                "/v1/recommendations", "POST", self.ask, "read", body=(ListQuestion, ListRequests),
                answer=(AskedList, SeveralLists),
            ),
            Endpoint("/recommendations/{user_id:rest}", "GET", of_user, "read", ListParameters),
        ]  # fmt: skip

    async def recommendations(self, request: Request, asked: ListParameters) -> Response:
        """A list for a user, made now."""
        user_id = id_in_path(request, "user_id")
        question = _ANYBODYS.model_copy(update={"user_id": user_id, **asked.__dict__})  # whose bounds are the same
        return await self._replies.list_response(question)

    async def ask(self, request: Request) -> Response:
        """A list for a user, a session, a basket or anybody; or, of `requests`, up to 100 at once."""
        settings = self._settings
        value = one_object(await read_body(request, settings.max_body_bytes, settings.request_timeout_s))
        if "requests" not in value:
            return await self._replies.list_response(validated(ListQuestion, value, "field"))
        questions = validated(ListRequests, value, "field").requests
        answers = await asyncio.gather(*(self._one_of_several(question) for question in questions))
        return Response(
            msgspec.json.encode({"lists": [msgspec.Raw(answer.body) for answer in answers]}),
            media_type="application/json",
        )

    async def _one_of_several(self, question: ListQuestion) -> Answer:
        try:
            return await self._replies.list_answer(question)
        except ApiError as error:
            return Answer(error.status, msgspec.json.encode(error.body))


class ListStreamRoutes:
    """Tells of the lists that are published for a user."""

    def __init__(self, view: View, limiter: Limiter) -> None:
        self._view, self._limiter = view, limiter

    def endpoints(self) -> list[Endpoint]:
        """The path, and that of before."""
        return [
            Endpoint("/v1/users/{user_id:id}/lists/stream", "GET", self.stream, "read", answer="text/event-stream"),
            Endpoint("/recommendations/{user_id:rest}/stream", "GET", self.stream, "read"),
        ]

    async def stream(self, request: Request) -> Response:
        """Server-sent events: each new list of one user, from the newest one on.

        With the header `Last-Event-ID`, the id of the last event, the newest list comes first only where it is another.
        """
        return event_stream(request, self._events(request, id_in_path(request, "user_id")), self._limiter)

    async def _events(self, request: Request, user: str) -> AsyncIterator[str]:
        shown = last_event_id(request)
        with self._view.watchers.watching() as watch:
            watch.add(user)
            while not (self._view.closed or await request.is_disconnected()):
                changed = await watch.changed(HEARTBEAT_S)
                event, shown = list_event(self._view, user, shown)
                if event:
                    yield event
                elif not changed:
                    yield HEARTBEAT
