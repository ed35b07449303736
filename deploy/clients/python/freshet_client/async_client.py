"""The client whose methods are awaited: otherwise the same as `freshet_client.client`."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Unpack, cast

import httpx

from freshet_client import calls
from freshet_client.answers import Accepted, Explanation, Item, Ranking, RecommendationList
from freshet_client.calls import Answer, Call, ListOptions, RankingOptions, Record
from freshet_client.errors import Unreachable
from freshet_client.list_events import SILENCE_S, ListEvents
from freshet_client.retries import PASSING, attempts, longer, refusal, wait_s


class AsyncClient:
    """Calls of one server. Tasks of one loop may share it; `close` it, or use it as a context.

    Args:
        address: of `freshet serve` or `up`, with /ns/NAME behind it for a namespace.
        api_key: where the server has keys.
        timeout_s: longest wait for an answer.
        retries: how often what may pass is tried again.
        httpx_options: whatever httpx.AsyncClient takes: verify, cert, proxy, transport, headers.

    Every method raises Refused where the server says no, and Unreachable where it says nothing.
    """

    def __init__(
        self,
        address: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 10.0,
        retries: int = 5,
        **httpx_options: Any,
    ) -> None:
        headers = {**httpx_options.pop("headers", {}), **({} if api_key is None else {"X-API-Key": api_key})}
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=timeout_s, **httpx_options)
        self._retries = retries

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    # lists

    async def recommendations(self, user_id: str, **options: Unpack[ListOptions]) -> RecommendationList:
        """A list for a user, made now."""
        return await self._answer(calls.recommendations(user_id, options))

    async def list_of(self, **question: Any) -> RecommendationList:
        """A list for a `session=`, a basket of `items=`, or anybody; with `k=`, `filter=`, `boost=` and so on."""
        return await self._answer(calls.list_of(question))

    async def lists(self, user_id: str) -> AsyncIterator[RecommendationList | None]:
        """Each list that is published for a user, from the newest one on; None where it was withdrawn.

        A connection that ends is made anew, and goes on where it was. It ends when the caller leaves the loop.
        """
        events, call, failed = ListEvents(), calls.list_stream(user_id), 0
        while True:
            try:
                timeout = longer(self._http.timeout, SILENCE_S)
                async with self._http.stream(
                    call.method, call.path, headers=events.headers(), timeout=timeout
                ) as stream:
                    outcome: httpx.Response | httpx.TransportError = stream
                    if stream.is_success:
                        async for line in stream.aiter_lines():
                            failed = 0
                            for told in events.read(line):
                                yield told
                    elif stream.status_code not in PASSING:
                        await stream.aread()
                        raise refusal(stream)
            except httpx.TransportError as error:
                outcome = error
            failed += 1
            if failed > self._retries:
                raise Unreachable(f"the stream of {user_id} ended {failed} times in a row")
            await asyncio.sleep(wait_s(failed - 1, outcome))

    async def explanation(self, user_id: str, item_id: str) -> Explanation:
        """Why an item is in a user's list."""
        return await self._answer(calls.explanation(user_id, item_id))

    # items in an order

    async def similar(self, item_id: str, **options: Unpack[RankingOptions]) -> Ranking:
        """Items like this one."""
        return await self._answer(calls.of_item("similar", item_id, options))

    async def together(self, item_id: str, **options: Unpack[RankingOptions]) -> Ranking:
        """Items that are taken along with this one."""
        return await self._answer(calls.of_item("together", item_id, options))

    async def popular(
        self, *, scale: str | None = None, cursor: str | None = None, **options: Unpack[RankingOptions]
    ) -> Ranking:
        """Items by how much was done with them; `scale`, such as "1d": how fast that is forgotten."""
        return await self._answer(calls.ranking("popular", options, {"scale": scale, "cursor": cursor}))

    async def trending(self, *, cursor: str | None = None, **options: Unpack[RankingOptions]) -> Ranking:
        """Items that more is done with than before."""
        return await self._answer(calls.ranking("trending", options, {"cursor": cursor}))

    async def newest(self, *, cursor: str | None = None, **options: Unpack[RankingOptions]) -> Ranking:
        """Items by when they came."""
        return await self._answer(calls.ranking("newest", options, {"cursor": cursor}))

    # what happened

    async def send(self, interactions: Record | Iterable[Record]) -> Accepted:
        """Writes interactions, one or several: user_id, item_id, event_type, and what else the API takes."""
        return await self._answer(calls.interactions(interactions))

    async def send_then_list(
        self, interactions: Record | Iterable[Record], *, wait_ms: int = 5_000
    ) -> RecommendationList | None:
        """Writes interactions of one user, and gives the list that knows them; None where the time runs out."""
        got = await self._answer(calls.interactions_then_list(interactions, wait_ms), wait_ms / 1_000)
        return cast(RecommendationList, got) if "items" in got else None

    async def retract(self, user_id: str, event_id: str) -> Accepted:
        """Takes an interaction back."""
        return await self._answer(calls.retraction(user_id, event_id))

    async def feedback(self, events: Record | Iterable[Record]) -> Accepted:
        """Writes what came of lists: list_id, event, and item_id or value where the event has one."""
        return await self._answer(calls.feedback(events))

    # who and what there is

    async def put_items(self, items: Record | Iterable[Record]) -> Accepted:
        """Writes items with all that is known of them."""
        return await self._answer(calls.items(items))

    async def change_item(self, item_id: str, **change: Any) -> Accepted:
        """Changes some of what is known of an item, such as hidden=True."""
        return await self._answer(calls.item_change(item_id, change))

    async def item(self, item_id: str) -> Item:
        """What is known of an item."""
        return await self._answer(calls.item(item_id))

    async def delete_item(self, item_id: str) -> Accepted:
        """Deletes an item."""
        return await self._answer(calls.item_deletion(item_id))

    async def put_users(self, users: Record | Iterable[Record]) -> Accepted:
        """Writes users with their attributes."""
        return await self._answer(calls.users(users))

    async def merge(self, user_id: str, *, session: str) -> Accepted:
        """Makes what a session did the user's."""
        return await self._answer(calls.merge(user_id, session))

    async def erase_user(self, user_id: str) -> Accepted:
        """Erases a user, and what follows from them."""
        return await self._answer(calls.erasure(user_id))

    async def status(self) -> dict[str, Any]:
        """How the whole is."""
        return await self._answer(calls.status())

    async def _answer(self, call: Call[Answer], more_s: float = 0.0) -> Answer:
        tries = attempts(self._retries)
        pause_s = next(tries)
        while True:
            await asyncio.sleep(pause_s)
            try:
                outcome: httpx.Response | httpx.TransportError = await self._http.request(
                    call.method,
                    call.path,
                    params=call.parameters,
                    json=call.body,
                    timeout=longer(self._http.timeout, more_s),
                )
            except httpx.TransportError as error:
                outcome = error
            try:
                pause_s = tries.send(outcome)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
