"""`/v1/feedback`: what came of lists."""

from collections.abc import Callable

import msgspec
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import Response

from consumers.records import NewRecord
from consumers.schemas import Feedback
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.current_log import called_within
from streamer.web.endpoints import Endpoint
from streamer.web.incoming import Incoming, IncomingRecords
from streamer.web.log_writer import LogWriter
from streamer.web.materialized_view import View
from streamer.web.view.list_owners import ListOwners

_encode = msgspec.json.encode


def feedback_clock(view: View, settings: Settings) -> Callable[[], int]:
    """The time, epoch ms, of feedback that names none: the wall clock, unless nothing could be counted by it.

    Lists are made by the clock of the stream. Where that lies further back than `attribution_window_s`, as in a
    recorded stream, it is the time of feedback too.
    """

    def clock_ms() -> int:
        now_ms = SYSTEM_CLOCK.now_ms()
        is_known = view.ready.is_set() and view.feed.stream_ms > 0
        stream_ms = view.feed.stream_now_ms() if is_known else now_ms
        return stream_ms if now_ms - stream_ms > settings.attribution_window_s * 1000 else now_ms

    return clock_ms


class FeedbackRoutes:
    """Appends feedback to the log, under the key of the user whose list it is about.

    Args:
        incoming: makes feedback of bodies.
        writer: appends it.
        owners: finds the users that are not named.
        clock_ms: the time that feedback without one gets.
        now_ms: the wall clock, for the skew bound.
        registry: gets the counter of what was accepted.
    """

    def __init__(
        self,
        settings: Settings,
        incoming: Incoming,
        writer: LogWriter,
        owners: ListOwners,
        clock_ms: Callable[[], int],
        now_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._settings, self._incoming, self._writer, self._owners = settings, incoming, writer, owners
        self._clock_ms, self._now_ms = clock_ms, now_ms
        self._accepted = Counter("freshet_http_feedback", "Feedback records accepted over HTTP.", registry=registry)

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint("/v1/feedback", "POST", self.post, "write", body=Feedback, status=202)]

    async def post(self, request: Request) -> Response:
        """Impressions and outcomes, one, an array, or NDJSON; 202 once they are in the log.

        Each quotes a `list_id`. Where `user_id` is not given, the user of the list is looked up.
        """
        body = await self._writer.records(request)
        taken = self._incoming.feedback(body, self._clock_ms(), self._now_ms())
        named = await self._named(taken.feedback)
        topic = self._settings.feedback_topic
        records = [NewRecord(topic, one.user_id.encode(), _encode(one)) for one in named]
        answer = await self._writer.append(
            IncomingRecords(records, [one.event_id or "" for one in named], taken.warnings)
        )
        self._accepted.inc(len(records))
        return answer

    async def _named(self, feedback: list[Feedback]) -> list[Feedback]:
        """The same with users, each in its place. Raises ApiError for the first whose user cannot be found."""
        unnamed = {one.list_id for one in feedback if not one.user_id}
        wait_s = self._settings.append_timeout_s
        users = await called_within(wait_s, self._owners.users_of, unnamed) if unnamed else {}
        named = []
        for n, one in enumerate(feedback):
            if not one.user_id and one.list_id not in users:
                message = f"record {n}: missing-field: there is no user_id, and no list of this id is known of late"
                raise ApiError(400, "missing-field", message, field="user_id", index=n)
            named.append(one if one.user_id else msgspec.structs.replace(one, user_id=users[one.list_id]))
        return named
