"""The Python client of either kind against a front: calls, tries that count once, and lists as they come."""

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from freshet_client import AsyncClient, Client, Refused, Unreachable
from freshet_client.answers import Accepted, ListedItem, RecommendationList
from freshet_client.retries import PASSING

from tests.clients.conftest import Front
from tests.waiting import until

ROOT = Path(__file__).parents[2]
Kind = type[Client] | type[AsyncClient]
BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


def call(kind: Kind, front: Front, method: str, *given: Any, retries: int = 5, **options: Any) -> Any:
    """What a method of a client of this kind gives."""
    if kind is Client:
        with Client(front.address, timeout_s=60, retries=retries) as client:
            return getattr(client, method)(*given, **options)

    async def awaited() -> Any:
        async with AsyncClient(front.address, timeout_s=60, retries=retries) as client:
            return await getattr(client, method)(*given, **options)

    return asyncio.run(awaited())


@BOTH
def test_every_method_is_answered(kind: Kind, front: Front) -> None:
    name = f"{kind.__name__}-user"

    def ask(method: str, *given: Any, **options: Any) -> Any:
        return call(kind, front, method, *given, **options)

    made = ask("recommendations", "u1", k=3, filter="item.price < 9", fields=["title"], context={"device": "phone"},
               explain=True, exclude=["i2", "i4"])  # fmt: skip
    assert len(made["items"]) == 3
    assert not {"i2", "i4", "i9"} & {item["item_id"] for item in made["items"]}
    assert made["items"][0]["title"].startswith("Item ")
    assert ask("list_of", items=["i1", "i2"], k=2)["items"]
    for ranking in ("popular", "trending", "newest"):
        assert "items" in ask(ranking, k=2)
    assert ask("popular", k=2, scale="7d")["items"]
    for ranking in ("similar", "together"):
        assert "items" in ask(ranking, "i1", k=2)
    listed = ask("send_then_list", {"user_id": name, "item_id": "i1", "event_type": "view"}, wait_ms=60_000)
    assert listed["user_id"] == name
    [event_id] = ask("send", [{"user_id": name, "item_id": "i3", "event_type": "view"}])["event_ids"]
    assert ask("retract", name, event_id)["accepted"] == 1
    said = {"list_id": listed["list_id"], "event": "click", "item_id": listed["items"][0]["item_id"]}
    assert ask("feedback", said)["accepted"] == 1
    assert ask("put_items", {"item_id": f"{name}/item", "title": "Slashed"})["accepted"] == 1
    until(lambda: _is_there(kind, front, f"{name}/item"))
    assert ask("change_item", f"{name}/item", hidden=True)["accepted"] == 1
    assert ask("delete_item", f"{name}/item")["accepted"] == 1
    assert ask("put_users", [{"user_id": name, "plan": "gold"}])["accepted"] == 1
    assert ask("explanation", "u1", ask("recommendations", "u1")["items"][0]["item_id"])
    assert ask("status")["ready"] is not None
    assert ask("erase_user", name)["accepted"] == 1


def _is_there(kind: Kind, front: Front, item_id: str) -> bool:
    try:
        return bool(call(kind, front, "item", item_id))
    except Refused:
        return False


@BOTH
def test_what_is_refused_is_not_tried_again(kind: Kind, front: Front) -> None:
    with pytest.raises(Refused, match="400 ") as refused:
        call(kind, front, "recommendations", "u1", k=0)
    assert (refused.value.field, len(front.faults.seen)) == ("k", 1)
    assert 400 not in PASSING


@BOTH
def test_an_answer_that_is_lost_counts_once(kind: Kind, front: Front) -> None:
    user = f"{kind.__name__}-lost"
    front.faults.next += ["lost", "busy", "lost"]
    event = {"user_id": user, "item_id": "i1", "event_type": "view"}
    assert call(kind, front, "send", [event, event | {"item_id": "i2"}])["accepted"] == 2
    assert len(front.faults.seen) == 4
    user_now: Callable[[], Any] = lambda: front.shop.front.get(f"/v1/users/{user}").json()  # noqa: E731
    last = call(kind, front, "send_then_list", event | {"item_id": "i3"}, wait_ms=60_000)
    assert last is not None
    assert user_now()["interactions"] == 3


@BOTH
def test_nobody_there_is_said_after_so_many_tries(kind: Kind, front: Front) -> None:
    front.faults.next += ["busy"] * 6
    with pytest.raises(Refused, match="503 log-away"):
        call(kind, front, "status")
    assert len(front.faults.seen) == 6
    front.address = "http://127.0.0.1:1"
    with pytest.raises(Unreachable):
        call(kind, front, "status", retries=1)


def test_lists_come_as_they_are_made_and_none_twice_over_connections(front: Front) -> None:
    with Client(front.address) as client:
        first = client.send_then_list({"user_id": "ann", "item_id": "i1", "event_type": "view"}, wait_ms=60_000)
        assert first is not None
        until(lambda: front.shop.view.list_of("ann") is not None)
        front.faults.next += ["short", "busy", ""]
        lists = client.lists("ann")
        shown = [next(lists)]
        sent = len(front.faults.seen)
        client.send({"user_id": "ann", "item_id": "i5", "event_type": "purchase"})  # takes "busy" upon itself
        shown.append(next(lists))
        assert shown[0] is not None
        assert shown[1] is not None
        assert shown[0]["list_id"] != shown[1]["list_id"]
        again = [seen["last-event-id"] for seen in front.faults.seen[sent:] if "last-event-id" in seen]
        assert again[0] == shown[0]["list_id"]


def test_lists_come_to_a_task_too(front: Front) -> None:
    async def listen() -> Any:
        async with AsyncClient(front.address) as client:
            await client.send_then_list({"user_id": "bob", "item_id": "i1", "event_type": "view"}, wait_ms=60_000)
            async for made in client.lists("bob"):
                return made

    assert asyncio.run(listen())["user_id"] == "bob"


def test_a_stream_that_is_refused_says_why(front: Front) -> None:
    front.faults.next += ["busy"] * 3
    with Client(front.address, retries=2) as client, pytest.raises(Unreachable, match="3 times in a row"):
        next(client.lists("ann"))


def test_both_kinds_have_the_same_methods_and_words() -> None:
    def told(kind: Kind) -> dict[str, tuple[str, str]]:
        return {
            name: (str(inspect.signature(method)).replace("Async", ""), inspect.getdoc(method) or "")
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert told(Client) == told(AsyncClient)
    assert all(doc for _, doc in told(Client).values())


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        (RecommendationList, "RecommendationList"),
        (RecommendationList, "AskedList"),
        (ListedItem, "ListedItem"),
        (ListedItem, "AskedItem"),
        (Accepted, "Accepted"),
    ],
)
def test_answers_have_the_fields_of_the_document(answer: type, model: str, front: Front) -> None:
    schema = front.shop.front.get("/openapi.json").json()["components"]["schemas"][model]
    assert schema["properties"].keys() <= get_type_hints(answer).keys()
    assert set(schema.get("required", ())) >= set(answer.__required_keys__)  # type: ignore[attr-defined]


def test_the_example_of_its_readme_runs(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "deploy/clients/python/README.md").read_text(), re.S)
    exec(example.replace("http://localhost:8765", front.address), {})
    assert "item_id" in capsys.readouterr().out
