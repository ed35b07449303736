"""The endpoints of what can be asked: of a worker by itself, and of the front before all of them."""

from streamer.settings import Settings
from streamer.web.endpoints import Endpoint
from streamer.web.materialized_view import View
from streamer.web.routes.items import KnownItemRoutes
from streamer.web.routes.lists import ListRoutes
from streamer.web.routes.rankings import RankingRoutes
from streamer.web.routes.status import StatusRoutes
from streamer.web.routes.users import KnownUserRoutes
from streamer.web.workers.replies import Replies


def question_endpoints(replies: Replies, settings: Settings, view: View | None = None) -> list[Endpoint]:
    """Every path that is answered by a question."""
    resources = (
        ListRoutes(replies, settings),
        RankingRoutes(replies),
        KnownItemRoutes(replies),
        KnownUserRoutes(replies),
        StatusRoutes(replies, view),
    )
    return [endpoint for resource in resources for endpoint in resource.endpoints()]
