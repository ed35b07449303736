"""`/v1/users/{id}/merge`: what was done before it was known by whom becomes the user's."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.records import NewRecord
from consumers.schemas import Merge
from streamer.asking.questions import SessionQuestion
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.bodies import one_object
from streamer.web.endpoints import Endpoint, id_in_path
from streamer.web.incoming import IncomingRecords
from streamer.web.log_writer import LogWriter
from streamer.web.parameters import MergedSession, validated
from streamer.web.workers.directory import WorkerDirectory
from streamer.web.workers.replies import Replies

ASKED_S = 1.0  # how long a worker may take to say whose a session is


class MergeRoutes:
    """Appends merges to the log.

    Args:
        workers: which worker has which partition.
        replies: has one asked whose a session is.
    """

    def __init__(self, settings: Settings, writer: LogWriter, workers: WorkerDirectory, replies: Replies) -> None:
        self._settings, self._writer, self._workers, self._replies = settings, writer, workers, replies

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint("/v1/users/{user_id:id}/merge", "POST", self.post, "write", body=MergedSession, status=202)]

    async def post(self, request: Request) -> Response:
        """Makes a session a user's: what was done under its id so far, and what will be; 202 once that is in the log.

        The session's list is withdrawn, the user's is made anew. A session stays the user's whose it is: 409 where that
        is known to be another.
        """
        user = id_in_path(request, "user_id")
        session = validated(MergedSession, one_object(await self._writer.body(request)), "field").session
        if session == user:
            raise ApiError(400, "bad-field", "session: it is the user's own id", field="session")
        if self._are_apart(user, session):
            message = "another worker has the session's partition than the user's; a merge needs one that has both"
            raise ApiError(409, "other-worker", message, field="session")
        owner = await self._owner_of(session)
        if owner is not None and owner not in {user, await self._owner_of(user)}:
            message = (
                f"the session {session!r} is another user's already, and stays theirs; give the next visitor another id"
            )
            raise ApiError(409, "other-user", message, field="session")
        place, end = await self._writer.end_of(self._settings.interactions_topic, session.encode())
        merge = Merge(user_id=user, merge=session, upto={str(place.partition): end})
        record = NewRecord(self._settings.interactions_topic, user.encode(), msgspec.json.encode(merge))
        return await self._writer.append(IncomingRecords([record], [], []))

    async def _owner_of(self, session: str) -> str | None:
        """Whose a session is; None where it is nobody's, and where nobody can be asked: then the worker will say."""
        try:
            async with asyncio.timeout(ASKED_S):
                answer = await self._replies.answer(SessionQuestion(user_id=session))
        except (ApiError, TimeoutError):
            return None
        owner: str | None = msgspec.json.decode(answer.body).get("user_id")
        return owner

    def _are_apart(self, user: str, session: str) -> bool:
        """Whether two workers are known to have them."""
        addresses = {self._workers.address_of(user), self._workers.address_of(session)} - {None}
        return len(addresses) > 1
