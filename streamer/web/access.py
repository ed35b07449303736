"""Keys with scopes, and the sessions that a browser opens with one."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from streamer.errors import UsageError
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.guard import is_loopback

Scope = Literal["read", "write", "admin"]
EndpointKind = Literal["open", "health", "metrics", "read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
COOKIE = "freshet_session"
SESSION_S, SESSIONS = 12 * 3600, 10_000


class Key(NamedTuple):
    """One API key."""

    digest: bytes  # SHA-256 of the key: the key itself is not kept
    scopes: frozenset[Scope]


class Access:
    """Decides whether a request may pass an endpoint.

    An endpoint is open to all, or asks for a scope; `admin` includes the others. Those of health and metrics ask for
    `read` unless the settings open them. Without any key every endpoint is open. Raises UsageError where the keys of
    the settings cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = read_keys(settings)
        self._sessions: OrderedDict[bytes, tuple[float, frozenset[Scope]]] = OrderedDict()
        self._cookie = "_".join([COOKIE, *filter(None, [settings.namespace])])  # a browser may be in several
        on_loopback = is_loopback(settings.host)
        self._open = {
            "open": True,
            "health": settings.health_public,
            "metrics": on_loopback if settings.metrics_public is None else settings.metrics_public,
        }

    def check(self, request: HTTPConnection, endpoint: EndpointKind) -> None:
        """Raises ApiError 401 without a valid key, 403 where it lacks the scope."""
        if not self._keys or self._open.get(endpoint, False):
            return
        scope = endpoint if endpoint in SCOPES else "read"
        scopes = self.scopes_of(request)
        if scopes is None:
            raise ApiError(
                401,
                "unauthorized",
                "a key is needed, as `Authorization: Bearer KEY` or `X-API-Key: KEY`, and this one is missing or wrong",
                headers={"WWW-Authenticate": 'Bearer realm="freshet"'},
            )
        if scope not in scopes and "admin" not in scopes:
            raise ApiError(403, "forbidden", f"this key lacks the scope {scope!r}")

    def scopes_of(self, request: HTTPConnection) -> frozenset[Scope] | None:
        """What the key or the session of a request may do; None where there is none that is valid."""
        if not self._keys:
            return frozenset(SCOPES)
        key = request.headers.get("x-api-key")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if key is None and scheme.lower() == "bearer":
            key = token.strip()
        if key is not None:
            return self.scopes_of_key(key)
        return self._scopes_of_session(request.cookies.get(self._cookie, ""))

    def scopes_of_key(self, key: str) -> frozenset[Scope] | None:
        """What a key may do; the time it takes says nothing about the keys that there are."""
        digest, found = _digest(key), None
        for known in self._keys:
            if hmac.compare_digest(known.digest, digest):
                found = known.scopes
        return found

    def open_session(self, key: str, response: Response, secure: bool) -> bool:
        """Gives the browser a session with the scopes of `key`; False where the key is wrong."""
        scopes = self.scopes_of_key(key)
        if scopes is None:
            return False
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = (time.monotonic() + SESSION_S, scopes)
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        response.set_cookie(self._cookie, token, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
        return True

    def close_session(self, request: Request, response: Response) -> None:
        """Forgets the session of a request."""
        self._sessions.pop(_digest(request.cookies.get(self._cookie, "")), None)
        response.delete_cookie(self._cookie, httponly=True, samesite="strict")

    def _scopes_of_session(self, token: str) -> frozenset[Scope] | None:
        until, scopes = self._sessions.get(_digest(token), (0.0, None))
        return scopes if time.monotonic() < until else None


def read_keys(settings: Settings) -> list[Key]:
    """The keys of `api_key`, which may do everything, and of `api_key_file`. Raises UsageError."""
    keys = []
    if settings.api_key is not None:
        keys.append(_key(settings.api_key, SCOPES))
    if settings.api_key_file is not None:
        keys += _read(settings.api_key_file)
    return keys


def is_open_to_all(settings: Settings, host: str) -> bool:
    """Whether others than this machine may ask at an address without a key."""
    return not is_loopback(host) and settings.api_key is None and settings.api_key_file is None


def admin_key(settings: Settings) -> str | None:
    """A key with the scope `admin`, for what one process of the application asks another; None without any."""
    if settings.api_key is not None or settings.api_key_file is None:
        return settings.api_key
    return next((key for key, scopes in _lines(settings.api_key_file) if "admin" in scopes), None)


def _read(file: Path) -> list[Key]:
    return [_key(text, scopes) for text, scopes in _lines(file)]


def _lines(file: Path) -> list[tuple[str, Sequence[Scope]]]:
    """A key a line, its scopes behind it; without scopes it may do everything. Raises UsageError."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"api_key_file {file} cannot be read: {reason}") from None
    keys: list[tuple[str, Sequence[Scope]]] = []
    for number, line in enumerate(lines, 1):
        key, *scopes = line.replace(",", " ").split() or [""]
        if not key or key.startswith("#"):
            continue
        if wrong := [scope for scope in scopes if scope not in SCOPES]:
            raise UsageError(f"{file}, line {number}: there is no scope {wrong[0][:20]!r}; {', '.join(SCOPES)}")
        keys.append((key, [scope for scope in SCOPES if scope in scopes] or SCOPES))
    if not keys:
        raise UsageError(f"api_key_file {file} has no key: write one a line, with its scopes behind it")
    return keys


def _key(text: str, scopes: Sequence[Scope]) -> Key:
    return Key(_digest(text), frozenset(scopes))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
