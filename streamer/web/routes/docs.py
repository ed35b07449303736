"""`/openapi.json` and `/docs`: the API as a document for programs, and as a page that needs nothing from elsewhere."""

from collections.abc import Callable
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from streamer.web.endpoints import Endpoint
from streamer.web.openapi import openapi

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DocumentRoutes:
    """Shows what there is. Args: all_endpoints: those that are described."""

    def __init__(self, all_endpoints: Callable[[], list[Endpoint]]) -> None:
        self._all_endpoints = all_endpoints
        self._document = b""

    def endpoints(self) -> list[Endpoint]:
        """Both paths."""
        return [
            Endpoint("/openapi.json", "GET", self.document, "open"),
            Endpoint("/docs", "GET", self.page, "open"),
        ]

    async def document(self, request: Request) -> Response:
        """OpenAPI 3.1."""
        root = request.scope.get("root", "")  # of a namespace
        self._document = self._document or msgspec.json.encode(openapi(self._all_endpoints(), root))
        return Response(self._document, media_type="application/json")

    async def page(self, request: Request) -> Response:
        """The same, to read and to try."""
        html = (files("streamer.web") / "docs.html").read_text("utf-8")
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})
