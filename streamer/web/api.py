"""The API over one log: the endpoints of `streamer.web.routes` behind one guard. Errors: `streamer.web.answers`."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from consumers.log import Log
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.settings import Settings
from streamer.web.access import Access
from streamer.web.answers import ApiError
from streamer.web.current_log import CurrentLog, OpenLog
from streamer.web.endpoints import Endpoint, Endpoints
from streamer.web.guard import Guard
from streamer.web.incoming import Incoming
from streamer.web.item_changes import ItemChanges
from streamer.web.limits import Limiter
from streamer.web.log_writer import LogWriter
from streamer.web.materialized_view import View
from streamer.web.question_endpoints import question_endpoints
from streamer.web.routes.dead_letters import DeadLetterRoutes
from streamer.web.routes.docs import DocumentRoutes
from streamer.web.routes.experiments import ExperimentRoutes
from streamer.web.routes.feed import FeedRoutes
from streamer.web.routes.feedback import FeedbackRoutes, feedback_clock
from streamer.web.routes.health import HealthRoutes
from streamer.web.routes.interactions import InteractionRoutes
from streamer.web.routes.items import ItemRoutes
from streamer.web.routes.lists import ListStreamRoutes
from streamer.web.routes.merges import MergeRoutes
from streamer.web.routes.page import PageRoutes
from streamer.web.routes.rules import RulesRoutes
from streamer.web.routes.session import SessionRoutes
from streamer.web.routes.sockets import SocketRoutes
from streamer.web.routes.users import UserRoutes
from streamer.web.view.list_owners import ListOwners
from streamer.web.view_metrics import ViewMetrics
from streamer.web.workers.askers import Asker, Nobody
from streamer.web.workers.replies import Replies

_IN_NAMESPACE = re.compile(r"/ns/([^/]+)(/.*)?")


class Namespaces:
    """An ASGI application in front of several: `/ns/NAME/…` goes to that of the namespace, all else to the first."""

    def __init__(self, first: ASGIApp, others: Mapping[str, ASGIApp]) -> None:
        self._first, self._others = first, dict(others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        match = _IN_NAMESPACE.fullmatch(scope.get("raw_path", b"").decode("latin-1"))
        if match is None:
            await self._first(scope, receive, send)
            return
        name, rest = unquote(match[1]), match[2] or "/"
        if name not in self._others:
            error = ApiError(404, "not-found", f"there is no namespace {name[:64]!r} here")
            await error.response()(scope, receive, send)
            return
        root = scope["raw_path"].decode("latin-1").removesuffix(match[2] or "")
        raw = rest.encode("latin-1")
        await self._others[name]({**scope, "raw_path": raw, "path": unquote(rest), "root": root}, receive, send)


class Gateway:
    """The API over one log.

    Args:
        log: where records go.
        settings: topics, keys, bounds.
        view: what published lists and the page are shown from.
        clock_ms: the time that an interaction without one gets; the wall clock by default.
        asker: has questions answered; by default nobody, and published lists are all that there is.
        beside_worker: whether it is ready only once a worker answers.
    """

    def __init__(
        self,
        log: Log | CurrentLog,
        settings: Settings,
        view: View,
        clock_ms: Callable[[], int] | None = None,
        asker: Asker | None = None,
        beside_worker: bool = False,
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ViewMetrics(view))
        self._settings, self._access = settings, Access(settings)
        current = log if isinstance(log, CurrentLog) else OpenLog(log)
        incoming, writer, limiter = Incoming(settings), LogWriter(current, settings), Limiter(settings.max_streams)
        replies, now_ms = Replies(asker or Nobody(), view), SYSTEM_CLOCK.now_ms
        self._asked = question_endpoints(replies, settings, view)
        self._sockets = SocketRoutes(view, self._access, limiter)
        owners = ListOwners(current.now, view.list_of, settings)
        self._resources = (
            ListStreamRoutes(view, limiter),
            InteractionRoutes(
                incoming, writer, view.committed, replies, self._access, clock_ms or now_ms, now_ms, self.registry
            ),
            FeedbackRoutes(
                settings, incoming, writer, owners, clock_ms or feedback_clock(view, settings), now_ms, self.registry
            ),
            ItemRoutes(settings, incoming, writer, ItemChanges(replies), view, now_ms),
            UserRoutes(settings, view, incoming, writer, now_ms),
            RulesRoutes(current, settings, writer, replies, now_ms),
            ExperimentRoutes(current, settings, view),
            MergeRoutes(settings, writer, view.workers, replies),
            DeadLetterRoutes(settings, view, current),
            FeedRoutes(view, limiter),
            self._sockets,
            SessionRoutes(self._access, writer),
            HealthRoutes(view, self.registry, replies if beside_worker else None),
            DocumentRoutes(self.endpoints),
        )

    def endpoints(self) -> list[Endpoint]:
        """Every path and method, those of before too."""
        others = [endpoint for resource in self._resources for endpoint in resource.endpoints()]
        endpoints = [*self._asked, *others, *PageRoutes().endpoints()]
        return sorted(
            endpoints, key=lambda endpoint: endpoint.path.endswith(":rest}")
        )  # what takes all the rest comes last

    def app(self) -> ASGIApp:
        """The ASGI application."""
        inner = Endpoints(self.endpoints(), self._access, self._sockets.connect)
        settings = self._settings
        return Guard(inner, settings.host, settings.allowed_hosts, settings.cors_origins)
