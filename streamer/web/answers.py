"""Errors as every path and status answers them: `{"error": {"code", "message", "field"?, "index"?}}`."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from consumers.errors import WireError

_logger = logging.getLogger(__name__)


class ApiError(Exception):
    """What a request is answered with instead of a result.

    Args:
        status: the HTTP status.
        code: what went wrong, for programs; stable.
        message: one line for people.
        field: the field or parameter that is wrong.
        index: the record of the body that is wrong, from 0.
        headers: of the answer.
        beside: further fields of the answer, beside `error`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        index: int | None = None,
        headers: Mapping[str, str] | None = None,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        told = {"code": code, "message": message, "field": field, "index": index}
        self.body = {"error": {name: value for name, value in told.items() if value is not None}, **(beside or {})}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body, self.status, self.headers)


def too_many(message: str) -> ApiError:
    """What is refused because it would wait for too long."""
    return ApiError(429, "too-many-requests", message, headers={"Retry-After": "1"})


CODES = {404: "not-found", 405: "method-not-allowed"}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _of_the_log(request: Request, error: Exception) -> Response:
    return ApiError(503, "log-unavailable", str(error), headers={"Retry-After": "1"}).response()


async def _of_the_routes(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, status = request.scope["path"], error.status_code
    message = {
        404: f"there is nothing at {path}",
        405: f"{path} does not take {request.method}",
    }.get(status, error.detail)
    return ApiError(status, CODES.get(status, "refused"), message, headers=error.headers).response()


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


async def _of_ours(request: Request, error: Exception) -> Response:
    return ApiError(500, "internal", "this is a fault of the server; its log says more").response()


HANDLERS: dict[Any, Any] = {
    ApiError: _refused,
    WireError: _of_the_log,
    HTTPException: _of_the_routes,
    ClientDisconnect: _gone,
    Exception: _of_ours,
}
"""For `Starlette(exception_handlers=…)`."""
