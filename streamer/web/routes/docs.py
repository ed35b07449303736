"""`/openapi.json` and `/docs`: the API as a document for programs, and as a page that needs nothing from elsewhere."""

from collections.abc import Callable
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from streamer.web.doors import Door
from streamer.web.openapi import openapi

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DocumentRoutes:
    """Shows what there is. Args: all_doors: those that are described."""

    def __init__(self, all_doors: Callable[[], list[Door]]) -> None:
        self._all_doors = all_doors
        self._document = b""

    def doors(self) -> list[Door]:
        """Both paths."""
        return [
            Door("/openapi.json", "GET", self.document, "open"),
            Door("/docs", "GET", self.page, "open"),
        ]

    async def document(self, request: Request) -> Response:
        """OpenAPI 3.1."""
        root = request.scope.get("root", "")  # of a namespace
        self._document = self._document or msgspec.json.encode(openapi(self._all_doors(), root))
        return Response(self._document, media_type="application/json")

    async def page(self, request: Request) -> Response:
        """The same, to read and to try."""
        html = (files("streamer.web") / "docs.html").read_text("utf-8")
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})
