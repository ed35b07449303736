"""Bodies of requests: JSON, NDJSON and CloudEvents, plain or gzip, within bounds of size and time."""

import asyncio
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request

from consumers.decode_fields import UNDECODABLE, decode_json, why_undecodable
from consumers.records import Headers
from streamer.web.answers import ApiError

JSON, LINES = ("application/json",), ("application/x-ndjson", "application/ndjson", "application/jsonl")
CLOUDEVENT, CLOUDEVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
TAKEN = (*JSON, *LINES, CLOUDEVENT, CLOUDEVENTS)
_GZIP = 16 + zlib.MAX_WBITS


class Body(NamedTuple):
    """What a request holds.

    `values`: decoded JSON, one a record, numbered from 0; a blank line of NDJSON is none.
    `headers`: those of a CloudEvent in binary mode, as records have them.
    """

    values: list[Any]
    headers: Headers = ()


def decode_record(data: bytes) -> Any:
    """The value of a record; a number that Python has none for stays as it was written, for decoders to refuse."""
    return decode_json(data, lambda text: msgspec.Raw(text.encode()))


async def read_body(
    request: Request, max_bytes: int, timeout_s: float, decode: Callable[[bytes], Any] = msgspec.json.decode
) -> Body:
    """The values of a request. Raises ApiError.

    A content type that a page of another origin could send without being asked is none of those taken. `max_bytes`
    bounds what came and what it unpacks to, `timeout_s` the time until all of it is there.
    """
    kind = _content_type(request)
    data = await _bytes_of(request, max_bytes, timeout_s)
    headers = _binary_cloudevent(request) if kind in JSON else ()
    if kind in LINES:
        lines = [line for line in data.splitlines() if line.strip()]
        return Body([_decoded(line, decode, n) for n, line in enumerate(lines)])
    value = _decoded(data, decode)
    if headers or kind == CLOUDEVENT:
        if isinstance(value, list):
            raise ApiError(400, "not-an-object", "one CloudEvent holds one record; a batch has its own content type")
        return Body([value], headers)
    if kind == CLOUDEVENTS and not isinstance(value, list):
        raise ApiError(400, "bad-type", "a batch of CloudEvents is an array")
    return Body(value if isinstance(value, list) else [value])


def one_object(body: Body) -> dict[str, Any]:
    """The one object of a body. Raises ApiError where it holds something else."""
    if len(body.values) != 1 or not isinstance(body.values[0], dict):
        raise ApiError(400, "not-an-object", "send one object")
    return body.values[0]


async def read_bytes(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The same as it came, for who decodes it otherwise. Raises ApiError."""
    _content_type(request)
    return await _bytes_of(request, max_bytes, timeout_s)


def _content_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
    charset = next((p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")), "utf-8")
    if kind not in TAKEN or charset not in ("utf-8", "utf8", "us-ascii"):
        raise ApiError(
            415,
            "unsupported-media-type",
            f"the content type is {given[:100] or 'missing'!r}; send {', '.join(TAKEN)}, in UTF-8",
            headers={"Accept": ", ".join(TAKEN)},
        )
    return kind


async def _bytes_of(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise ApiError(
            415, "unsupported-content-encoding", f"the content encoding is {coding[:100]!r}; send gzip or none",
            headers={"Accept-Encoding": "gzip"},
        )  # fmt: skip
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    unpack = _Unpacker() if coding != "identity" else None
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                body += unpack.add(part, max_bytes - len(body)) if unpack else part
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise ApiError(
            408, "timeout", f"the body was not there after {timeout_s:g} s", headers={"Connection": "close"}
        ) from None
    if unpack and not unpack.complete:
        raise ApiError(400, "bad-encoding", "the gzip data ends too early")
    return bytes(body)


class _Unpacker:
    """Unpacks gzip members as they come, never more than it is asked for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    @property
    def complete(self) -> bool:
        """Whether the last member has ended."""
        return self._member.eof or not self._begun

    def add(self, part: bytes, room: int) -> bytes:
        """What a part unpacks to, at most `room` + 1 bytes. Raises ApiError."""
        out = bytearray()
        while part and len(out) <= room:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                out += self._member.decompress(part, room + 1 - len(out))
            except zlib.error as error:
                raise ApiError(400, "bad-encoding", f"the body is no gzip data: {error}") from None
            part = self._member.unused_data or self._member.unconsumed_tail
        return bytes(out)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "body-too-large", f"the body is larger than {max_bytes} bytes")


def _decoded(data: bytes, decode: Callable[[bytes], Any], index: int | None = None) -> Any:
    try:
        return decode(data)
    except UNDECODABLE as error:
        where = "the body" if index is None else f"record {index}"
        raise ApiError(400, "not-json", f"{where} is no JSON: {why_undecodable(error)}", index=index) from None


def _binary_cloudevent(request: Request) -> Headers:
    """The attributes of a CloudEvent in binary mode as headers of a record."""
    return tuple(
        (name.replace("ce-", "ce_", 1), unquote_to_bytes(text))
        for name, text in request.headers.items()
        if name.startswith("ce-")
    )
