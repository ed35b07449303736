"""What the view says in figures: how much there is, what waits, how long lists take, what could not be taken."""

import json
import math

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter, Reason, dead_letter_record
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.list_store import SLICE, ListStore
from streamer.web.server import WebServer
from streamer.web.view.dead_letters import LETTERS, DeadLetters
from streamer.web.view.feed import FEED
from streamer.web.view.latency import LATE_MS, Latencies
from streamer.web.view.progress import Lag, LogProgress
from streamer.web.view.quality_figures import QualityFigures
from tests.streamer.web.test_materialized_view import item, seen, viewing
from tests.waiting import scaled, until

DRIFT = {"metric": "log_loss", "before": 1.0, "after": 2.0, "event": 90, "timestamp": 7, "since": 80,
         "hr_before": 0.5, "hr_after": 0.25}  # fmt: skip


def test_interactions_of_before_the_start_count(log: OwnedLog, settings: Settings) -> None:
    log.append([seen("u") for _ in range(FEED + 103)])
    with viewing(log, settings) as view:
        assert view.events == FEED + 103
        assert view.stats()["events_per_second"] == 0  # they came before anybody looked
        log.append([seen("u") for _ in range(5)])
        until(lambda: view.events == FEED + 108)
        view._begin_anew("a test")
        assert (view.events, list(view.feed.entries)) == (0, [])
    with viewing(log, settings) as again:
        assert again.events == FEED + 108


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["append", "commit", "again"])), max_size=60))
def test_what_waits_is_what_no_epoch_has_taken(steps: list[tuple[int, str]]) -> None:
    progress, ends, taken, waiting_since = LogProgress(), [3, 0, 9], [3, 0, 9], [[], [], []]
    for partition, end in enumerate(ends):
        progress.placed(partition, 0, end)
        progress.committed(partition, end)
    now_ms = 0
    for partition, step in steps:
        now_ms += 1_000
        if step == "append":
            progress.appended(partition, ends[partition], now_ms)
            waiting_since[partition].append(now_ms)
            ends[partition] += 1
        elif step == "commit":
            taken[partition], waiting_since[partition] = ends[partition], []
            progress.committed(partition, ends[partition])
        else:
            progress.placed(partition, 0, ends[partition])  # the reader was made anew, and goes on
        oldest = min((times[0] for times in waiting_since if times), default=now_ms)
        lag = progress.lag(now_ms)
        assert lag is not None
        assert lag.records == sum(ends) - sum(taken)
        assert lag.ms >= now_ms - oldest
        assert (lag.ms == 0) or lag.records
        assert progress.records() == sum(ends)


def test_without_an_epoch_nobody_knows_what_waits() -> None:
    progress = LogProgress()
    progress.placed(0, 0, 0)
    progress.appended(0, 0, 5)
    assert progress.lag(9) is None
    progress.committed(0, 0)
    assert progress.lag(9) == Lag(1, 4)


@given(st.lists(st.integers(0, 200_000), min_size=2, max_size=300))
def test_catching_up_is_no_latency(times_ms: list[int]) -> None:
    latencies = Latencies()
    for ms in times_ms:
        latencies.note(ms)
    told, late = latencies.figures(), sum(ms > LATE_MS for ms in times_ms)
    assert math.isclose(told["late"], late / len(times_ms), abs_tol=1e-4)
    assert (told["latency_ms"] is None) == (len(times_ms) - late < 2)
    if told["latency_ms"]:
        assert 0 <= told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]
        on_time = [ms for ms in times_ms if ms <= LATE_MS]
        assert min(on_time) <= told["latency_ms"]["p50"] <= max(on_time)


def test_an_example_of_each_reason_is_read_from_the_log(log: OwnedLog, settings: Settings) -> None:
    cases = [
        (Reason.NOT_JSON, b"k", b"{oops"),
        (Reason.NOT_JSON, b"k", b"{newest"),
        (Reason.TOMBSTONE, None, None),
        (Reason.BAD_TYPE, b"\xff", "é".encode() * 10_000),
    ]
    for n, (reason, key, value) in enumerate(cases):
        record = Record("interactions", 3, n, key, value, (), 5)
        log.append([dead_letter_record(DeadLetter(record, reason, "why"), "interactions.dead")])
    with viewing(log, settings) as view:
        server = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
        server.start()
        try:
            with httpx.Client(base_url=server.address) as client:
                until(lambda: client.get("/v1/dead-letters/bad-type").status_code == 200)
                told = client.get("/v1/dead-letters/not-json").json()
                assert told.pop("at_ms") > 0
                assert told == {
                    "reason": "not-json", "message": "why", "topic": "interactions", "partition": "3", "offset": "1",
                    "key": "k", "value": "{newest", "value_bytes": 7,
                }  # fmt: skip
                nothing = client.get("/v1/dead-letters/tombstone").json()
                assert (nothing["key"], nothing["value"], nothing["value_bytes"]) == (None, None, None)
                long = client.get("/v1/dead-letters/bad-type").json()
                assert (long["key"], len(long["value"]), long["value_bytes"]) == ("\ufffd", 4_000, 20_000)
                assert client.get("/v1/dead-letters/bad-id").json()["error"]["code"] == "not-found"
        finally:
            server.stop()


def test_dead_letters_and_drift_are_told(log: OwnedLog, settings: Settings) -> None:
    refused = [
        dead_letter_record(
            DeadLetter(Record("interactions", 0, n, b"u", b"secret", (), 0), reason, f"no {reason}"),
            "interactions.dead",
        )
        for n, reason in enumerate([Reason.NOT_JSON, Reason.BAD_ID, Reason.NOT_JSON])
    ]
    with viewing(log, settings) as view:
        log.append([*refused, NewRecord("interactions.dead", b"u", b"no headers")])
        log.append([NewRecord("quality", b"drift", json.dumps(DRIFT).encode()), NewRecord("quality", b"drift", b"{}")])
        until(lambda: view.skipped["interactions.dead"] == 1 and view.skipped["quality"] == 1)
        server = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
        server.start()
        answer = httpx.get(f"{server.address}/v1/status")
        server.stop()
        told = answer.json()
        assert "secret" not in answer.text
        assert told["drifts"] == [DRIFT]
        assert [(one["reason"], one["count"], one["offset"]) for one in told["dead_letters"]] == [
            ("not-json", 2, "2"),
            ("bad-id", 1, "1"),
        ]


@given(st.lists(st.dictionaries(st.sampled_from(["freshet.reason", "__streams.errors.message"]), st.binary())))
def test_whatever_headers_hold_reasons_are_text(letters: list[dict[str, bytes]]) -> None:
    kept = DeadLetters()
    taken = sum(kept.note(headers, 0) for headers in letters)
    assert sum(one["count"] for one in kept.by_reason()) == taken <= LETTERS
    json.dumps(kept.by_reason())


def test_titles_are_found_whatever_their_case(log: OwnedLog, settings: Settings) -> None:
    with viewing(log, settings) as view:
        log.append([item(f"i{n:05}", f"Film {n}") for n in range(2 * SLICE)])
        log.append([item("straße", "Die große Straße"), item("untitled", None)])
        until(lambda: view.title_of("straße"))
        assert view.titles(f"fILM {2 * SLICE - 1}", 20) == [(f"i{2 * SLICE - 1:05}", f"Film {2 * SLICE - 1}")]
        assert view.titles("STRASSE", 20) == [("straße", "Die große Straße")]
        assert len(view.titles("film", 20)) == 20
        assert len(view.titles("", 10**6)) == 2 * SLICE + 1
        assert view.titles("nothing has this", 20) == []
        server = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
        server.start()
        found = httpx.get(f"{server.address}/v1/items", params={"search": "i00007", "limit": 3}).json()
        server.stop()
        assert found == {"items": [{"item_id": "i00007", "title": "Film 7"}]}


@pytest.mark.parametrize("text", ["", "x"])
def test_without_titles_nothing_is_found(settings: Settings, text: str) -> None:
    store = ListStore(None, "a log")
    store.write({"u": b"{}"}, {}, {"v": 1}, {}, None, {})
    assert store.find_titles(text, 20) == []
    store.close()


def test_the_hit_rate_of_late_is_that_of_the_last_interactions() -> None:
    """By counting: hits of each thousand, and what is told of them as shares of all so far."""
    random, figures, hits = np.random.default_rng(2), QualityFigures(), []
    for n in range(1, 31):
        hits.append(random.integers(0, 1_000, 2))
        ours, theirs = np.sum(hits, axis=0) / (n * 1_000)
        told = {"metric": "hr@10", "value": ours, "popularity": theirs, "events": n * 1_000, "timestamp": n}
        figures.note(Record("quality", 0, n, b"hr@10", json.dumps(told).encode(), (), n))
        lately = figures.lately()
        if n == 1:
            assert lately is None
            continue
        assert lately is not None
        last = hits[-10:] if n > 10 else hits[1:]
        assert (lately.events, lately.timestamp) == (len(last) * 1_000, n)
        assert [lately.ours, lately.popularity] == pytest.approx(np.sum(last, axis=0) / lately.events)


def test_a_reset_of_quality_is_told_as_one(log: OwnedLog, settings: Settings) -> None:
    def figure(events: int) -> NewRecord:
        told = {"metric": "hr@10", "value": 0.5, "popularity": 0.25, "events": events, "timestamp": events}
        return NewRecord("quality", b"hr@10", json.dumps(told).encode())

    with viewing(log, settings) as view:
        server = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
        server.start()
        log.append([figure(100), figure(200)])
        until(lambda: len(view.quality.history) == 2)
        told: list[tuple[bool, list[int]]] = []
        with httpx.stream("GET", f"{server.address}/v1/stream", timeout=scaled(60)) as stream:
            lines = stream.iter_lines()
            for line in lines:
                if line == "event: quality":
                    body = json.loads(next(lines).removeprefix("data: "))
                    told.append((body["anew"], [point[0] for point in body["points"]]))
                    if len(told) == 3:
                        break
                    log.append([figure(300) if len(told) == 1 else figure(40)])
        server.stop()
    assert told == [(True, [100, 200]), (False, [300]), (True, [40])]
