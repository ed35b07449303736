"""The API of one worker, in its own process: what it answers for the users of its partitions."""

from starlette.types import ASGIApp

from streamer.asking.question_queue import QuestionQueue
from streamer.settings import Settings
from streamer.web.access import Access
from streamer.web.endpoints import Endpoints
from streamer.web.guard import Guard
from streamer.web.health import health_endpoints
from streamer.web.question_endpoints import question_endpoints
from streamer.web.routes.docs import DocumentRoutes
from streamer.web.routes.questions import QuestionRoutes
from streamer.web.workers.askers import LocalAsker
from streamer.web.workers.replies import Replies
from streamer.worker.prometheus import RunMetrics


def worker_app(settings: Settings, queue: QuestionQueue, metrics: RunMetrics) -> ASGIApp:
    """The application: what can be asked, `/internal/questions` for the front, and health."""
    asked = question_endpoints(Replies(LocalAsker(queue), None), settings)
    endpoints = [*QuestionRoutes(queue, settings).endpoints(), *asked, *DocumentRoutes(lambda: asked).endpoints()]
    app = Endpoints([*endpoints, *health_endpoints(metrics)], Access(settings))
    return Guard(app, settings.api_host, settings.allowed_hosts, settings.cors_origins)
