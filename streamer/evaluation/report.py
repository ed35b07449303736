"""The report of a replay: one HTML file, read without network or script, in light and dark, narrow and wide.

The same stream gives the same bytes, but for the one section between CLOCK marks: it was measured by the clock.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from streamer.evaluation.page import BOTH, details, figures, grouped, key, page, section, table
from streamer.evaluation.plots import Bars, Line, bar_chart, column_chart, line_chart, percent, whole
from streamer.evaluation.replay import ReplayOptions, ReplayResult, first_measured
from streamer.evaluation.replay_trace import Trace
from streamer.evaluation.segments import (
    ListWatcher,
    Windows,
    by_item_age,
    by_item_popularity,
    by_pair,
    by_user_age,
    concentration,
    first_events,
    growth,
    rank_shares,
    windows,
)
from streamer.monitoring.prequential_quality import metrics
from streamer.runtime.whole_files import whole_file
from streamer.settings import Settings

CHUNK = 2_000  # events of a timed chunk
CLOCK = ("<!-- clock -->", "<!-- /clock -->")
SHOWN = (
    "k", "exclude_seen", "seed", "window", "every_item_below", "without", "event_weights", "field_map", "dedup_window",
)  # fmt: skip


def write_report(
    path: Path, stream: str, settings: Settings, options: ReplayOptions, result: ReplayResult, watcher: ListWatcher
) -> None:
    """Writes the report of a replay that `watcher` has watched. `stream`: its name, for the title."""
    with whole_file(path) as part:
        part.write_text(report(stream, settings, options, result, watcher), encoding="utf-8")


def report(stream: str, settings: Settings, options: ReplayOptions, result: ReplayResult, watcher: ListWatcher) -> str:
    """The HTML of a report."""
    trace = watcher.trace()
    measured_from = first_measured(result.events, options)
    measured = (trace.rank >= 0) & (trace.event >= measured_from)
    names = tuple(name.upper() for name in metrics(settings.k))
    sections = [
        *_over_time(windows(trace), result, trace, measured_from, names),
        grouped("By user age", "How many events the user had before this one.", by_user_age(trace, measured), names),
        grouped(
            "By item popularity", "How many events the item had before this one.",
            by_item_popularity(trace, measured), names,
        ),
        grouped(
            "By item age", "Time since the item was first taken, where it was.", by_item_age(trace, measured), names
        ),
        *([] if settings.exclude_seen else [_pairs(trace, measured, names)]),
        _ranks(rank_shares(trace, measured, settings.k), settings.k),
        _coverage(watcher, trace, result),
        _settings(settings, options, result),
        _clock(watcher, result),
    ]  # fmt: skip
    summary = _summary(trace, settings.k, options, result)
    return page(f"Freshet: {stream}", summary, sections)


def _summary(trace: Trace, k: int, options: ReplayOptions, result: ReplayResult) -> str:
    """What the reader came for: is it any good, on what."""
    span = f", {_day(int(trace.t.min()))} to {_day(int(trace.t.max()))}" if len(trace.t) else ""
    large = [
        (f"{ours:.4f}", f"{name.upper()}; decayed popularity {theirs:.4f}")
        for name, (ours, theirs) in result.quality.figures(k).items()
    ]
    large += [
        (whole(result.quality.events), f"events measured, after the first {100 * options.measure_after:g} %"),
        (whole(result.events), f"events{span}"),
        (whole(result.users), "users"),
        (whole(result.items), "items"),
        (str(len(result.drift)), "drift alarms"),
        (whole(result.dead.total()), "dead letters"),
        (whole(result.duplicates), "duplicates"),
    ]
    return (
        "<p>Every list was made before its event was known, over the full catalogue; an item that is not listed "
        f"is a miss.</p>\n{figures(large)}"
    )


def _over_time(at: Windows, result: ReplayResult, trace: Trace, measured_from: int, names: Sequence[str]) -> list[str]:
    marks = [("start", float(measured_from)), *(("alarm", float(alarm.event)) for alarm in result.drift)]
    legend = key((*BOTH, ("start", "measured from here"), *([("alarm", "drift alarm")] if result.drift else [])))
    sections = []
    for n, name in enumerate(names):
        lines = [Line("theirs", at.event, at.popularity[:, n]), Line("ours", at.event, at.ours[:, n])]
        chart = line_chart(f"{name.lower()} over time", lines, result.events, marks, "event")
        body = f"{chart}{legend}"
        if n == 0:
            window = f"of about {whole(len(trace.rank) / len(at.event))} events" if len(at.event) else ""
            head = f"<p>In windows {window}, from the first event on.</p>"
            alarms = [
                [whole(a.event), whole(a.since), _day(a.timestamp), *(f"{x:.3f}" for x in a[3:])] for a in result.drift
            ]
            if alarms:
                heads = ("event", "since", "time", "log loss before", "after", f"{names[0]} before", "after")
                body += details("drift alarms", heads, alarms)
            sections.append(section(f"{name} over time", f"{head}{body}", wide=True))
        else:
            sections.append(section(f"{name} over time", body))
    return sections


def _pairs(trace: Trace, measured: np.ndarray, names: Sequence[str]) -> str:
    return grouped(
        "Repeats and new pairs", "Whether this user had taken this very item before.", by_pair(trace, measured), names
    )


def _ranks(shares: np.ndarray, k: int) -> str:
    """Where the item stood."""
    rows = [[str(n + 1), percent(share)] for n, share in enumerate(shares[:-1].tolist())]
    chart = column_chart("Share of events by rank", "ours", shares[:-1].tolist(), "1", f"rank {k}")
    return section(
        "Ranks",
        f"<p>At which place of the list the item stood, as a share of the measured events; "
        f"{percent(float(shares[-1]))} were not among the {k}.</p>{chart}"
        f"{details('all figures', ('rank', 'share'), rows)}",
    )


def _coverage(watcher: ListWatcher, trace: Trace, result: ReplayResult) -> str:
    """How much of the catalogue is shown, and how evenly."""
    known = growth(first_events(trace), result.events)
    listed = growth(watcher.first_listed[watcher.first_listed >= 0], result.events)
    chart = line_chart(
        "Distinct items over time", [Line("theirs", *known), Line("ours", *listed)], result.events, foot="event"
    )
    shares = concentration(watcher.listings, result.items)
    bars = [Bars(f"most listed {100 * share:g} % of items", [("ours", 100 * gets)]) for share, gets in shares]
    distinct = int((watcher.listings > 0).sum())
    return section(
        "Coverage",
        f"<p>Distinct items listed so far, among those known so far. In the lists of measured events: "
        f"{whole(distinct)} of {whole(result.items)}.</p>{chart}"
        f"{key((('ours', 'listed'), ('theirs', 'known')))}"
        f"<h2>Who gets the places</h2><p>Share of all listings, %.</p>{bar_chart('Share of listings', bars)}",
    )


def _settings(settings: Settings, options: ReplayOptions, result: ReplayResult) -> str:
    """With what it was measured, and what could not be."""
    rows: list[list[str]] = [[name, str(getattr(settings, name))] for name in SHOWN]
    rows += [[f"--{name.replace('_', '-')}", str(getattr(options, name))] for name in ("learn_until", "stale")]
    rows += [["--after", str(options.measure_after)]]
    refused = [[reason, whole(count)] for reason, count in sorted(result.dead.items())]
    refused += [["duplicates", whole(result.duplicates)]]
    return section(
        "Settings and refused records",
        f"{table(('setting', ''), rows)}<h2>Not taken</h2>{table(('why', 'records'), refused)}",
    )


def _clock(watcher: ListWatcher, result: ReplayResult) -> str:
    """What the machine needed; the only part that differs from run to run."""
    events, seconds = np.array(watcher.chunk_events), np.array(watcher.seconds)
    body = "<p>No event was taken.</p>"
    if len(events):
        cost_us = 1e6 * seconds / events
        large = [
            (whole(result.events / max(result.seconds, 1e-9)), "events a second, all in all"),
            *((f"{np.quantile(cost_us, q):,.0f} µs", f"an event in {name}") for q, name in _QUANTILES),
        ]
        line = Line("ours", np.cumsum(events) - events / 2, events / seconds)
        chart = line_chart("Events a second", [line], result.events, foot="event")
        body = (
            f"<p>Wall time of score, learn and observe, in chunks of {whole(CHUNK)} events. Measured on one machine "
            f"at one time: it differs from run to run.</p>{figures(large)}<h2>Events a second</h2>{chart}"
        )
    return f"{CLOCK[0]}\n{section('Time', body, wide=True)}{CLOCK[1]}\n"


_QUANTILES = ((0.5, "the median chunk"), (0.9, "9 of 10 chunks"), (0.99, "99 of 100"), (1.0, "the slowest"))


def _day(t: int) -> str:
    """Epoch ms as a UTC day; years that no calendar holds as they are."""
    try:
        return datetime.fromtimestamp(t / 1000, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{t} ms"
