"""Errors as every path and status answers them: `{"error": {"code", "message", "field"?, "index"?}}`."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from consumers.errors import WireError


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


def refusal_of(error: Exception) -> tuple[Response, bool]:
    """What an exception is answered with, and whether it is one that is told of; else it is a fault of ours."""
    if isinstance(error, ApiError):
        return error.response(), True
    if isinstance(error, WireError):
        return ApiError(503, "log-unavailable", str(error), headers={"Retry-After": "1"}).response(), True
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400), True  # nobody is there to read it
    return ApiError(500, "internal", "this is a fault of the server; its log says more").response(), False
