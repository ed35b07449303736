"""`/` and `/static/…`, also under `/ns/NAME`: the page, as the files that it is made of."""

import hashlib
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from streamer.web.answers import ApiError
from streamer.web.endpoints import Endpoint

FOLDER, INDEX = "static", "index.html"
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


_HEADERS = {"Content-Security-Policy": _POLICY}


class _File(NamedTuple):
    body: bytes
    kind: str
    etag: str


class PageRoutes:
    """Serves the page. No data is in it, so that a browser can ask for a key."""

    def __init__(self) -> None:
        self._files = {}
        for entry in (files("streamer.web") / FOLDER).iterdir():
            if kind := TYPES.get(entry.name.rpartition(".")[2]):
                body = entry.read_bytes()
                self._files[entry.name] = _File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def endpoints(self) -> list[Endpoint]:
        """Both paths."""
        return [
            Endpoint("/", "GET", self.page, "open"),
            Endpoint(f"/{FOLDER}/{{name:id}}", "GET", self.file, "open"),
        ]

    async def page(self, request: Request) -> Response:
        """The page; in a namespace its files have the addresses of that."""
        root = request.scope.get("root", "")
        if not root:
            return self._response(request, INDEX)
        body = self._files[INDEX].body.replace(f'"/{FOLDER}/'.encode(), f'"{root}/{FOLDER}/'.encode())
        return Response(body, headers={"Cache-Control": "no-cache", **_HEADERS}, media_type=TYPES["html"])

    async def file(self, request: Request) -> Response:
        """One of its files."""
        return self._response(request, request.path_params["name"])

    def _response(self, request: Request, name: str) -> Response:
        """A file; 304 where the browser has it as it is: it asks each time, as another version has the same names."""
        if name not in self._files:
            raise ApiError(404, "not-found", f"there is nothing at {request.scope['path']}")
        body, kind, etag = self._files[name]
        headers = {"ETag": etag, "Cache-Control": "no-cache", **_HEADERS}
        held = {text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")}
        if etag in held:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=kind)
