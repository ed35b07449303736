"""The API of one worker, in its own process: what it answers for the users of its partitions."""

from starlette.applications import Starlette
from starlette.types import ASGIApp

from streamer.asking.question_queue import QuestionQueue
from streamer.settings import Settings
from streamer.web.access import Access
from streamer.web.answers import HANDLERS
from streamer.web.endpoints import routes_of
from streamer.web.guard import Guard
from streamer.web.health import health_routes
from streamer.web.question_endpoints import question_endpoints
from streamer.web.routes.docs import DocumentRoutes
from streamer.web.routes.questions import QuestionRoutes
from streamer.web.workers.askers import LocalAsker
from streamer.web.workers.replies import Replies
from streamer.worker.prometheus import RunMetrics


def worker_app(settings: Settings, queue: QuestionQueue, metrics: RunMetrics) -> ASGIApp:
    """The application: what can be asked, `/internal/questions` for the front, and health."""
    asker = LocalAsker(queue)
    asked = question_endpoints(Replies(asker, None), settings)
    endpoints = [*QuestionRoutes(asker, settings).endpoints(), *asked, *DocumentRoutes(lambda: asked).endpoints()]
    routes = [*routes_of(endpoints, Access(settings)), *health_routes(metrics)]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return Guard(app, settings.api_host, settings.allowed_hosts, settings.cors_origins)
