"""A typed client of Freshet's HTTP API: `Client`, and `AsyncClient` with the same methods to be awaited."""

from freshet_client.answers import Accepted, Explanation, Item, ListedItem, Ranking, RecommendationList
from freshet_client.async_client import AsyncClient
from freshet_client.client import Client
from freshet_client.errors import FreshetClientError, Refused, Unreachable

__all__ = [
    "Accepted", "AsyncClient", "Client", "Explanation", "FreshetClientError", "Item", "ListedItem", "Ranking",
    "RecommendationList", "Refused", "Unreachable",
]  # fmt: skip
