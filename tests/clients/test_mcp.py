"""`freshet mcp` as an assistant sees it: a client of the protocol over stdin and over HTTP on loopback."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer.cli.main import main
from tests.clients.conftest import Front
from tests.lazily import lazily
from tests.waiting import ends, until

Client = lazily("fastmcp:Client")
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(Path.home())}
READING = {
    "list_recommendations", "list_ask", "ranking_popular", "ranking_similar", "known_item_item", "known_user_explanation",
    "status_status", "rules_preview",
}  # fmt: skip
WRITING = {"interaction_post", "item_post", "item_delete", "user_delete", "feedback_post", "rules_put"}


def over_stdio(front: Front, *flags: str) -> "Client[Any]":
    from fastmcp.client.transports import StdioTransport

    line = ["-m", "streamer", "mcp", front.address, *flags]
    return Client(StdioTransport(sys.executable, line, env=ENVIRONMENT, cwd=str(ROOT)))


def test_by_default_there_are_tools_that_read_and_no_others(front: Front) -> None:
    from fastmcp.exceptions import ToolError

    async def ask() -> None:
        async with over_stdio(front) as client:
            tools = {tool.name: tool for tool in await client.list_tools()}
            assert tools.keys() >= READING
            assert not tools.keys() & WRITING
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
            assert not [name for name in tools if "stream" in name or "session" in name or "socket" in name]
            got = await client.call_tool("list_recommendations", {"user_id": "u1", "k": 3, "filter": "item.price < 9"})
            listed = got.structured_content
            assert listed["user_id"] == "u1"
            assert len(listed["items"]) == 3
            asked = await client.call_tool("list_ask", {"items": ["i1", "i2"], "k": 2})
            assert asked.structured_content["items"]
            with pytest.raises(ToolError, match="bad-"):
                await client.call_tool("list_recommendations", {"user_id": "u1", "filter": "item.price <"})

    asyncio.run(ask())


def test_with_write_an_interaction_counts_and_an_item_goes(front: Front) -> None:
    async def ask() -> None:
        async with over_stdio(front, "--write") as client:
            tools = {tool.name: tool for tool in await client.list_tools()}
            assert tools.keys() >= READING | WRITING
            assert {name for name in READING if tools[name].annotations.read_only_hint} == READING
            assert not [name for name in WRITING if tools[name].annotations.read_only_hint]
            assert tools["item_delete"].annotations.destructive_hint
            event = {
                "event_id": "mcp-1",
                "user_id": "mcp/user",
                "item_id": "i1",
                "event_type": "view",
                "timestamp": 1_700_000_000_000,
            }
            got = await client.call_tool("interaction_post", event)
            assert got.structured_content["accepted"] == 1

    asyncio.run(ask())
    until(lambda: front.shop.front.get("/v1/users/mcp%2Fuser").json().get("interactions") == 1)


def test_over_http_on_loopback(front: Front) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "streamer", "mcp", front.address, "--http-port", str(port)]
    process = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with ends(process):
        until(lambda: process.poll() is None and _listens(port))

        async def ask() -> Any:
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                return (await client.call_tool("ranking_popular", {"k": 2})).structured_content

        assert asyncio.run(ask())["items"]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "code", "says"),
    [
        ("http://127.0.0.1:1", 1, "nobody answers at http://127.0.0.1:1"),
        ("localhost:8765", 2, "'localhost:8765' is no address"),
        ("{front}/v1", 2, "is no `freshet serve`"),
    ],
)
def test_where_there_is_no_server_one_line_says_so(
    address: str, code: int, says: str, front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mcp", address.format(front=front.address)]) == code
    assert says in capsys.readouterr().err
