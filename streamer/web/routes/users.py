"""`/v1/users`: what is known of users, who was active lately, and erasure."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.schemas import User
from streamer.asking.answer_models import ItemExplanation, KnownUser, Surprises
from streamer.asking.questions import ExplanationQuestion, SurpriseQuestion, UserQuestion
from streamer.settings import Settings
from streamer.web.endpoints import Endpoint, id_in_path
from streamer.web.front_answers import ActiveUsers
from streamer.web.incoming import Incoming, warning
from streamer.web.log_writer import LogWriter
from streamer.web.materialized_view import View
from streamer.web.parameters import CountParameters
from streamer.web.workers.replies import Replies

SHOWN = 50
UNKNOWN = "nothing is known of this user, no list and nothing done lately; the tombstone was written all the same"


class UserRoutes:
    """Appends users and their tombstones to the log, shows who is active."""

    def __init__(
        self, settings: Settings, view: View, incoming: Incoming, writer: LogWriter, now_ms: Callable[[], int]
    ) -> None:
        self._settings, self._view, self._incoming, self._writer = settings, view, incoming, writer
        self._now_ms = now_ms

    def endpoints(self) -> list[Endpoint]:
        """Every path and method, that of before too."""
        return [
            Endpoint("/v1/users", "GET", self.active, "read", answer=ActiveUsers),
            Endpoint("/v1/users", "POST", self.post, "write", body=User, status=202),
            Endpoint("/v1/users/{user_id:id}", "DELETE", self.delete, "admin", status=202),
            Endpoint("/users", "GET", self.active, "read"),
        ]

    async def active(self, request: Request) -> Response:
        """Users that were active lately, the latest first."""
        return JSONResponse({"users": list(reversed(self._view.feed.users))[:SHOWN]})

    async def post(self, request: Request) -> Response:
        """One user, an array, or NDJSON; 202 once they are in the log."""
        return await self._writer.append(self._incoming.users(await self._writer.records(request), self._now_ms()))

    async def delete(self, request: Request) -> Response:
        """Erases a user; a warning says where nothing is known of one."""
        user = id_in_path(request, "user_id")
        warnings = [] if await asyncio.to_thread(self._view.may_know, user) else [warning(0, "unknown-user", UNKNOWN)]
        return await self._writer.append_tombstone(self._settings.users_topic, user, warnings)


class KnownUserRoutes:
    """Has told what is known of a user, and why a list is as it is."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def endpoints(self) -> list[Endpoint]:
        """Every path and method."""
        user = "/v1/users/{user_id:id}"
        return [
            Endpoint(user, "GET", self.user, "read", answer=KnownUser),
            Endpoint(f"{user}/explanations/{{item_id:id}}", "GET", self.explanation, "read", answer=ItemExplanation),
            Endpoint(f"{user}/surprise", "GET", self.surprise, "read", CountParameters, answer=Surprises),
        ]

    async def user(self, request: Request) -> Response:
        """What is known of a user: attributes, last interactions, counts, list."""
        return await self._replies.response(UserQuestion(user_id=id_in_path(request, "user_id")))

    async def explanation(self, request: Request) -> Response:
        """Why an item stands where it stands for a user, and what would change it."""
        user_id, item_id = id_in_path(request, "user_id"), id_in_path(request, "item_id")
        return await self._replies.response(ExplanationQuestion(user_id=user_id, item_id=item_id))

    async def surprise(self, request: Request, asked: CountParameters) -> Response:
        """How surprising each of a user's last interactions was, the most surprising first."""
        return await self._replies.response(SurpriseQuestion(user_id=id_in_path(request, "user_id"), k=asked.k))
