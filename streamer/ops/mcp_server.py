"""The API as tools of the Model Context Protocol: one a path and method, made of the API's own document."""

import re
from typing import Any

import httpx2
from fastmcp import FastMCP
from fastmcp.server.providers.openapi import MCPType, OpenAPITool
from mcp.types import ToolAnnotations

from streamer.errors import ServerAway, UsageError

READS = frozenset({"/v1/recommendations", "/v1/rules/preview"})
"""Paths that are asked by POST and change nothing."""
_NO_TOOLS = re.compile(r"/v1/(session|ws|stream|users/[^/]+/lists/stream)|(?!/v1/).*")  # of pages, and what never ends
_TIMEOUT_S = 60.0


def open_mcp_server(address: str, api_key: str | None, writes: bool) -> "FastMCP[Any]":
    """A server whose tools ask `freshet serve` at an address.

    Args:
        api_key: where that has keys; its scopes hold for the tools too.
        writes: whether there are tools that write and delete.

    Raises ServerAway where nobody answers, UsageError where it is no Freshet.
    """
    headers = {} if api_key is None else {"X-API-Key": api_key}
    document = _document_of(address, headers)
    names = {
        operation["operationId"]: _tool_name(operation["operationId"])
        for methods in document["paths"].values()
        for operation in methods.values()
    }

    def choose(route: Any, _: MCPType) -> MCPType:
        is_read = route.method == "GET" or route.path in READS
        return MCPType.EXCLUDE if _NO_TOOLS.fullmatch(route.path) or not (writes or is_read) else MCPType.TOOL

    def describe(route: Any, component: Any) -> None:
        if isinstance(component, OpenAPITool):
            is_read = route.method == "GET" or route.path in READS
            component.annotations = ToolAnnotations(
                read_only_hint=is_read,
                destructive_hint=route.method == "DELETE",
                idempotent_hint=True,
                open_world_hint=False,
            )

    client = httpx2.AsyncClient(base_url=address, headers=headers, timeout=_TIMEOUT_S)
    return FastMCP.from_openapi(
        document, client, name="Freshet", route_map_fn=choose, mcp_component_fn=describe, mcp_names=names,
        validate_output=False,  # an answer may have more than the document says
    )  # fmt: skip


def _document_of(address: str, headers: dict[str, str]) -> dict[str, Any]:
    try:
        got = httpx2.get(f"{address.rstrip('/')}/openapi.json", headers=headers, timeout=_TIMEOUT_S)
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
        raise UsageError(f"{address!r} is no address such as http://localhost:8765") from None
    except httpx2.HTTPError as error:
        raise ServerAway(f"nobody answers at {address}: {error}; start `freshet serve` or `freshet up`") from error
    try:
        document: dict[str, Any] = got.json()
        is_ours = document["info"]["title"] == "Freshet"
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise UsageError(f"what answers at {address} is no `freshet serve`")
    document.pop("servers", None)  # the address that was given is the one to ask
    for methods in document["paths"].values():
        for operation in methods.values():
            if "requestBody" in operation:
                operation["requestBody"]["content"] = _one_record(operation["requestBody"]["content"])
    return document


def _one_record(content: dict[str, Any]) -> dict[str, Any]:
    """A body as a tool takes it, whose parameters are fields: one record in JSON, whatever else the path takes."""
    schema = content["application/json"]["schema"]
    return {"application/json": {"schema": schema.get("anyOf", [schema])[0]}}


def _tool_name(operation: str) -> str:
    """`KnownUser.explanation` → `known_user_explanation`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation.replace(".", "_")).lower()
