"""`/v1/popular`, `/v1/trending`, `/v1/newest`, and what belongs to an item: items and users ranked without a list."""

from starlette.requests import Request
from starlette.responses import Response

from streamer.asking.answer_models import Audience, NewestItems, PopularItems, RelatedItems, TrendingItems
from streamer.asking.questions import (
    AudienceQuestion,
    NewestQuestion,
    PopularQuestion,
    SimilarQuestion,
    TogetherQuestion,
    TrendingQuestion,
)
from streamer.web.endpoints import Endpoint, id_in_path
from streamer.web.parameters import CountParameters, PageParameters, PopularParameters, RankingParameters
from streamer.web.workers.replies import Replies


class RankingRoutes:
    """Has rankings made, of everything and around one item."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def endpoints(self) -> list[Endpoint]:
        """Every path and method."""
        item = "/v1/items/{item_id:id}"
        return [
            Endpoint("/v1/popular", "GET", self.popular, "read", PopularParameters, answer=PopularItems),
            Endpoint("/v1/trending", "GET", self.trending, "read", PageParameters, answer=TrendingItems),
            Endpoint("/v1/newest", "GET", self.newest, "read", PageParameters, answer=NewestItems),
            Endpoint(f"{item}/similar", "GET", self.similar, "read", RankingParameters, answer=RelatedItems),
            Endpoint(f"{item}/together", "GET", self.together, "read", RankingParameters, answer=RelatedItems),
            Endpoint(f"{item}/users", "GET", self.audience, "read", CountParameters, answer=Audience),
        ]

    async def popular(self, request: Request, asked: PopularParameters) -> Response:
        """Items by popularity, decayed with a time scale."""
        return await self._replies.response(PopularQuestion(scale=asked.scale, **asked.page()))

    async def trending(self, request: Request, asked: PageParameters) -> Response:
        """Items whose popularity rises."""
        return await self._replies.response(TrendingQuestion(**asked.page()))

    async def newest(self, request: Request, asked: PageParameters) -> Response:
        """Items by when they became known, the newest first."""
        return await self._replies.response(NewestQuestion(**asked.page()))

    async def similar(self, request: Request, asked: RankingParameters) -> Response:
        """Items like one item."""
        return await self._replies.response(SimilarQuestion(item_id=id_in_path(request, "item_id"), **dict(asked)))

    async def together(self, request: Request, asked: RankingParameters) -> Response:
        """Items that were taken along with one item."""
        return await self._replies.response(TogetherQuestion(item_id=id_in_path(request, "item_id"), **dict(asked)))

    async def audience(self, request: Request, asked: CountParameters) -> Response:
        """Users who should hear of an item, of those who were active last."""
        return await self._replies.response(AudienceQuestion(item_id=id_in_path(request, "item_id"), k=asked.k))
