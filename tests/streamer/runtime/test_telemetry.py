"""A trace goes from an interaction to its list."""

import json
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.runtime.telemetry import carried
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import read_all

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def send(log: OwnedLog, user: str, *headers: tuple[str, bytes]) -> None:
    value = {"user_id": user, "item_id": "i", "event_type": "view", "timestamp": 5}
    log.append([NewRecord("interactions", user.encode(), json.dumps(value).encode(), headers)])


def run(log: OwnedLog, settings: Settings) -> None:
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()


def test_the_context_is_carried_to_the_list(log: OwnedLog, settings: Settings) -> None:
    send(log, "ann", ("traceparent", TRACEPARENT.encode()), ("tracestate", b"a=1"), ("other", b"x"))
    send(log, "bob")
    run(log, settings)
    headers = {record.key: dict(record.headers) for record in read_all(log, "recommendations")}
    assert headers == {b"ann": {"traceparent": TRACEPARENT.encode(), "tracestate": b"a=1"}, b"bob": {}}
    assert carried(()) == ()


def test_a_span_from_append_to_commit(log: OwnedLog, settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    send(log, "ann", ("traceparent", TRACEPARENT.encode()))
    send(log, "bob")
    run(log, settings)
    (record,) = (record for record in read_all(log, "interactions") if record.headers)
    (span,) = spans.get_finished_spans()
    assert format(span.context.trace_id, "032x") == TRACE
    assert format(span.parent.span_id, "016x") == PARENT
    assert span.start_time == record.timestamp_ms * 1_000_000 <= span.end_time
    assert "ann" not in span.to_json()
