"""`/v1/interactions`: what users did, and what of it is taken back."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.errors import WireError
from consumers.schemas import Interaction
from streamer.asking.questions import ListQuestion
from streamer.web.access import Access
from streamer.web.answers import ApiError
from streamer.web.committed import CommittedPositions
from streamer.web.endpoints import Endpoint, id_in_path
from streamer.web.front_answers import ListThatKnows
from streamer.web.incoming import Incoming, IncomingRecords
from streamer.web.log_writer import LogWriter
from streamer.web.parameters import RetractionParameters, WaitParameters
from streamer.web.workers.replies import Replies

ASK_AGAIN_S = 0.05
APPEND_S = 0.5
"""Who waits for a list waits at least so long for the log to take the interaction: without that nothing can be said."""


class InteractionRoutes:
    """Appends interactions and retractions to the log.

    Args:
        incoming: makes records of bodies.
        writer: appends them.
        committed: how far workers are, for those who wait.
        replies: makes their lists.
        access: says who may read them.
        clock_ms: the time that an interaction without one gets.
        now_ms: the wall clock, for the skew bound.
        registry: gets the counter of those that were accepted.
    """

    def __init__(
        self,
        incoming: Incoming,
        writer: LogWriter,
        committed: CommittedPositions,
        replies: Replies,
        access: Access,
        clock_ms: Callable[[], int],
        now_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._incoming, self._writer, self._clock_ms, self._now_ms = incoming, writer, clock_ms, now_ms
        self._committed, self._replies, self._access = committed, replies, access
        self._accepted = Counter("freshet_http_interactions", "Interactions accepted over HTTP.", registry=registry)

    def endpoints(self) -> list[Endpoint]:
        """Every path and method, that of before too."""
        post = self.post
        return [
            Endpoint(
                "/v1/interactions", "POST", post, "write", WaitParameters, body=Interaction, status=202,
                also={200: ListThatKnows},
            ),
            Endpoint(
                "/v1/interactions/{event_id:id}", "DELETE", self.delete, "write", RetractionParameters, status=202
            ),
            Endpoint("/interactions", "POST", post, "write", WaitParameters),
        ]  # fmt: skip

    async def post(self, request: Request, asked: WaitParameters) -> Response:
        """One interaction, an array, NDJSON, or CloudEvents; 202 once they are in the log.

        With `wait`, 200 with the list of their user once it knows them, with `accepted`, `event_ids` and `warnings`
        beside; 202 where the time runs out, 503 where even the log has not taken them by then.
        """
        began = time.monotonic()
        if asked.wait is not None:
            self._access.check(request, "read")
        body = await self._writer.records(request)
        taken = self._incoming.interactions(body, self._clock_ms(), self._now_ms())
        users = {record.key for record in taken.records}
        if asked.wait is not None and len(users) != 1:
            raise ApiError(400, "bad-parameter", "wait: one user's interactions can be waited for", field="wait")
        within_s = None if asked.wait is None else max(asked.wait / 1000, APPEND_S)
        answer = await self._writer.append(taken, within_s)
        self._accepted.inc(len(taken.records))
        if asked.wait is None:
            return answer
        known = await self._list_of(taken, asked.wait / 1000 - (time.monotonic() - began))
        return answer if known is None else JSONResponse({**known, **taken.answer()})

    async def delete(self, request: Request, asked: RetractionParameters) -> Response:
        """Takes an interaction back."""
        event_id = id_in_path(request, "event_id")
        return await self._writer.append(self._incoming.retraction(asked.user_id, event_id, self._clock_ms()))

    async def _list_of(self, taken: IncomingRecords, left_s: float) -> dict[str, Any] | None:
        """The list of the user of all the records, once it knows them; None where the time runs out."""
        last = taken.records[-1]
        assert last.key is not None
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                place, position = await self._writer.end_of(last.topic, last.key)
                await self._committed.passed(place.partition, position)
                return await self._answered(ListQuestion.model_validate({"user_id": last.key.decode()}))
        except (TimeoutError, WireError):  # they are in the log all the same
            return None

    async def _answered(self, question: ListQuestion) -> dict[str, Any]:
        """The list, as soon as somebody answers: a worker that has just started may not be known yet."""
        while True:
            try:
                answer = await self._replies.list_answer(question)
            except ApiError:
                answer = None
            if answer is not None and answer.status == 200:
                listed: dict[str, Any] = msgspec.json.decode(answer.body)
                return listed
            await asyncio.sleep(ASK_AGAIN_S)
