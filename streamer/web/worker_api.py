"""The API of one worker, in its own process: what it answers for the users of its partitions."""

from starlette.applications import Starlette
from starlette.types import ASGIApp

from streamer.asking.desk import Desk
from streamer.settings import Settings
from streamer.web.access import Access
from streamer.web.answers import HANDLERS
from streamer.web.doors import routes_of_doors
from streamer.web.guard import Guard
from streamer.web.health import health_routes
from streamer.web.question_doors import question_doors
from streamer.web.routes.docs import DocumentRoutes
from streamer.web.routes.questions import QuestionRoutes
from streamer.web.workers.askers import LocalAsker
from streamer.web.workers.replies import Replies
from streamer.worker.prometheus import RunMetrics


def worker_app(settings: Settings, desk: Desk, metrics: RunMetrics) -> ASGIApp:
    """The application: what can be asked, `/internal/questions` for the front, and health."""
    asker = LocalAsker(desk)
    asked = question_doors(Replies(asker, None), settings)
    doors = [*QuestionRoutes(asker, settings).doors(), *asked, *DocumentRoutes(lambda: asked).doors()]
    routes = [*routes_of_doors(doors, Access(settings)), *health_routes(metrics)]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return Guard(app, settings.api_host, settings.allowed_hosts, settings.cors_origins)
