"""A trace from event to list: W3C trace context is carried over; where OpenTelemetry is installed a span is made."""

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any

from consumers.records import Headers, Record

TRACEPARENT_BYTES, TRACESTATE_BYTES = 55, 512  # W3C Trace Context, https://www.w3.org/TR/trace-context/


def carried(headers: Headers) -> Headers:
    """The headers of an interaction that its list has too, each once and no larger than W3C makes them.

    Of a larger `tracestate` its first entries are carried, a larger `traceparent` is none.
    """
    found: dict[str, bytes] = {}
    for name, value in headers:
        if name == "traceparent" and len(value) <= TRACEPARENT_BYTES:
            found.setdefault(name, value)
        elif name == "tracestate" and (fitting := _first_entries(value)):
            found.setdefault(name, fitting)
    return tuple(found.items())


def _first_entries(tracestate: bytes) -> bytes:
    if len(tracestate) <= TRACESTATE_BYTES:
        return tracestate
    return tracestate[: TRACESTATE_BYTES + 1].rpartition(b",")[0]


@cache
def _tracer() -> Any:
    """OpenTelemetry's, or None. Where no SDK is set up it makes spans that go nowhere."""
    if not find_spec("opentelemetry"):
        return None
    from opentelemetry import trace

    return trace.get_tracer("freshet")


def trace_lists(records: Iterable[Record], committed_ns: int) -> None:
    """A span for each interaction that has a trace: from its append to the commit of its list. Names no user or item.

    committed_ns: epoch ns.
    """
    tracer = _tracer()
    if tracer is None:
        return
    from opentelemetry.propagate import extract

    for record in records:
        context = {name: value.decode("ascii", "replace") for name, value in carried(record.headers)}
        if "traceparent" not in context:
            continue
        where = {
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
        }
        span = tracer.start_span(
            "freshet list", extract(context), attributes=where | {"messaging.kafka.offset": record.offset},
            start_time=min(record.timestamp_ms * 1_000_000, committed_ns),
        )  # fmt: skip
        span.end(committed_ns)
