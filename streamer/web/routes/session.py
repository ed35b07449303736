"""`/v1/session`: a cookie that stands for a key, for the page."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.web.access import Access
from streamer.web.answers import ApiError
from streamer.web.endpoints import Endpoint
from streamer.web.front_answers import OpenSession
from streamer.web.log_writer import LogWriter
from streamer.web.parameters import SessionKey


class SessionRoutes:
    """Opens, shows and ends the session of a browser."""

    def __init__(self, access: Access, writer: LogWriter) -> None:
        self._access, self._writer = access, writer

    def endpoints(self) -> list[Endpoint]:
        """Every path and method."""
        return [
            Endpoint("/v1/session", "GET", self.session, "read", answer=OpenSession),
            Endpoint("/v1/session", "POST", self.open_session, "open", body=SessionKey, answer=OpenSession),
            Endpoint("/v1/session", "DELETE", self.close_session, "open", status=204),
        ]

    async def session(self, request: Request) -> Response:
        """What the key or the session of the request may do."""
        return JSONResponse({"scopes": sorted(self._access.scopes_of(request) or ())})

    async def open_session(self, request: Request) -> Response:
        """Takes `{"key": …}` once; from then on a cookie stands for the key."""
        [value, *more] = (await self._writer.body(request)).values or [None]
        if more or not isinstance(value, dict) or not isinstance(value.get("key"), str):
            raise ApiError(400, "bad-type", 'send {"key": "…"}', field="key")
        response = JSONResponse({"scopes": sorted(self._access.scopes_of_key(value["key"]) or ())})
        if not self._access.open_session(value["key"], response, request.url.scheme == "https"):
            raise ApiError(401, "unauthorized", "this key is wrong", field="key")
        return response

    async def close_session(self, request: Request) -> Response:
        """Ends the session of the request."""
        response = Response(status_code=204)
        self._access.close_session(request, response)
        return response
