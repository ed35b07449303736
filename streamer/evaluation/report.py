"""The report of a replay: one HTML file, read without network or script, in light and dark, narrow and wide.

The same stream gives the same bytes, but for the one section between CLOCK marks: it was measured by the clock.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from streamer.evaluation.plots import Bars, Line, bar_chart, column_chart, line_chart, percent, whole
from streamer.evaluation.replay import ReplayOptions, ReplayResult, first_measured
from streamer.evaluation.replay_trace import Trace
from streamer.evaluation.segments import (
    ListWatcher,
    Segment,
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
from streamer.monitoring.prequential_quality import MEASURES, metrics
from streamer.settings import Settings

CHUNK = 2_000  # events of a timed chunk
CLOCK = ("<!-- clock -->", "<!-- /clock -->")
SHOWN = (
    "k", "exclude_seen", "seed", "window", "every_item_below", "without", "event_weights", "field_map", "dedup_window",
)  # fmt: skip
BOTH = (("ours", "Freshet"), ("theirs", "decayed popularity"))


def write_report(
    path: Path, stream: str, settings: Settings, options: ReplayOptions, result: ReplayResult, watcher: ListWatcher
) -> None:
    """Writes the report of a replay that `watcher` has watched. `stream`: its name, for the title."""
    path.write_text(report(stream, settings, options, result, watcher), encoding="utf-8")


def report(stream: str, settings: Settings, options: ReplayOptions, result: ReplayResult, watcher: ListWatcher) -> str:
    """The HTML of a report."""
    trace = watcher.trace()
    measured_from = first_measured(result.events, options)
    measured = (trace.rank >= 0) & (trace.event >= measured_from)
    names = tuple(name.upper() for name in metrics(settings.k))
    sections = [
        *_over_time(windows(trace), result, trace, measured_from, names),
        _grouped("By user age", "How many events the user had before this one.", by_user_age(trace, measured), names),
        _grouped(
            "By item popularity", "How many events the item had before this one.",
            by_item_popularity(trace, measured), names,
        ),
        _grouped(
            "By item age", "Time since the item was first taken, where it was.", by_item_age(trace, measured), names
        ),
        *([] if settings.exclude_seen else [_pairs(trace, measured, names)]),
        _ranks(rank_shares(trace, measured, settings.k), settings.k),
        _coverage(watcher, trace, result),
        _settings(settings, options, result),
        _clock(watcher, result),
    ]  # fmt: skip
    title = f"Freshet: {escape(stream)}"
    summary = _summary(trace, settings.k, options, result)
    style = (files("streamer.evaluation") / "report.css").read_text("utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n{summary}"
        f"</header>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _summary(trace: Trace, k: int, options: ReplayOptions, result: ReplayResult) -> str:
    """What the reader came for: is it any good, on what."""
    span = f", {_day(int(trace.t.min()))} to {_day(int(trace.t.max()))}" if len(trace.t) else ""
    figures = [
        (f"{ours:.4f}", f"{name.upper()}; decayed popularity {theirs:.4f}")
        for name, (ours, theirs) in result.quality.figures(k).items()
    ]
    figures += [
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
        f"is a miss.</p>\n{_figures(figures)}"
    )


def _over_time(at: Windows, result: ReplayResult, trace: Trace, measured_from: int, names: Sequence[str]) -> list[str]:
    marks = [("start", float(measured_from)), *(("alarm", float(alarm.event)) for alarm in result.drift)]
    key = _key((*BOTH, ("start", "measured from here"), *([("alarm", "drift alarm")] if result.drift else [])))
    sections = []
    for n, name in enumerate(names):
        lines = [Line("theirs", at.event, at.popularity[:, n]), Line("ours", at.event, at.ours[:, n])]
        chart = line_chart(f"{name.lower()} over time", lines, result.events, marks, "event")
        body = f"{chart}{key}"
        if n == 0:
            window = f"of about {whole(len(trace.rank) / len(at.event))} events" if len(at.event) else ""
            head = f"<p>In windows {window}, from the first event on.</p>"
            alarms = [
                [whole(a.event), whole(a.since), _day(a.timestamp), *(f"{x:.3f}" for x in a[3:])] for a in result.drift
            ]
            if alarms:
                heads = ("event", "since", "time", "log loss before", "after", f"{names[0]} before", "after")
                body += _details("drift alarms", heads, alarms)
            sections.append(_section(f"{name} over time", f"{head}{body}", wide=True))
        else:
            sections.append(_section(f"{name} over time", body))
    return sections


def _grouped(title: str, about: str, groups: Sequence[Segment], names: Sequence[str]) -> str:
    """Quality by group: the hit rate as bars, everything as a table."""
    about = f"{about} {names[0]}."
    bars = [
        Bars(f"{g.name}: {whole(g.events)} events", [("ours", g.ours["hr"]), ("theirs", g.popularity["hr"])])
        for g in groups
    ]
    rows = [
        [g.name, whole(g.events), *(f"{side[name]:.4f}" for name in MEASURES for side in (g.ours, g.popularity))]
        for g in groups
    ]
    head = ("", "events", *(text for name in names for text in (name, "popularity")))
    body = f"<p>{about}</p>{bar_chart(title, bars)}{_key(BOTH)}{_details('all figures', head, rows)}"
    return _section(title, body if groups else f"<p>{about}</p><p>No event is measured.</p>")


def _pairs(trace: Trace, measured: np.ndarray, names: Sequence[str]) -> str:
    return _grouped(
        "Repeats and new pairs", "Whether this user had taken this very item before.", by_pair(trace, measured), names
    )


def _ranks(shares: np.ndarray, k: int) -> str:
    """Where the item stood."""
    rows = [[str(n + 1), percent(share)] for n, share in enumerate(shares[:-1].tolist())]
    chart = column_chart("Share of events by rank", "ours", shares[:-1].tolist(), "1", f"rank {k}")
    return _section(
        "Ranks",
        f"<p>At which place of the list the item stood, as a share of the measured events; "
        f"{percent(float(shares[-1]))} were not among the {k}.</p>{chart}"
        f"{_details('all figures', ('rank', 'share'), rows)}",
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
    return _section(
        "Coverage",
        f"<p>Distinct items listed so far, among those known so far. In the lists of measured events: "
        f"{whole(distinct)} of {whole(result.items)}.</p>{chart}"
        f"{_key((('ours', 'listed'), ('theirs', 'known')))}"
        f"<h2>Who gets the places</h2><p>Share of all listings, %.</p>{bar_chart('Share of listings', bars)}",
    )


def _settings(settings: Settings, options: ReplayOptions, result: ReplayResult) -> str:
    """With what it was measured, and what could not be."""
    rows: list[list[str]] = [[name, str(getattr(settings, name))] for name in SHOWN]
    rows += [[f"--{name.replace('_', '-')}", str(getattr(options, name))] for name in ("learn_until", "stale")]
    rows += [["--after", str(options.measure_after)]]
    refused = [[reason, whole(count)] for reason, count in sorted(result.dead.items())]
    refused += [["duplicates", whole(result.duplicates)]]
    return _section(
        "Settings and refused records",
        f"{_table(('setting', ''), rows)}<h2>Not taken</h2>{_table(('why', 'records'), refused)}",
    )


def _clock(watcher: ListWatcher, result: ReplayResult) -> str:
    """What the machine needed; the only part that differs from run to run."""
    events, seconds = np.array(watcher.chunk_events), np.array(watcher.seconds)
    body = "<p>No event was taken.</p>"
    if len(events):
        cost_us = 1e6 * seconds / events
        figures = [
            (whole(result.events / max(result.seconds, 1e-9)), "events a second, all in all"),
            *((f"{np.quantile(cost_us, q):,.0f} µs", f"an event in {name}") for q, name in _QUANTILES),
        ]
        line = Line("ours", np.cumsum(events) - events / 2, events / seconds)
        chart = line_chart("Events a second", [line], result.events, foot="event")
        body = (
            f"<p>Wall time of score, learn and observe, in chunks of {whole(CHUNK)} events. Measured on one machine "
            f"at one time: it differs from run to run.</p>{_figures(figures)}<h2>Events a second</h2>{chart}"
        )
    return f"{CLOCK[0]}\n{_section('Time', body, wide=True)}{CLOCK[1]}\n"


_QUANTILES = ((0.5, "the median chunk"), (0.9, "9 of 10 chunks"), (0.99, "99 of 100"), (1.0, "the slowest"))


def _key(lines: Iterable[tuple[str, str]]) -> str:
    """What the colours mean: (css class, name)."""
    names = " ".join(f'<span><i class="{css}"></i>{name}</span>' for css, name in lines)
    return f'<p class="key">{names}</p>'


def _section(title: str, body: str, wide: bool = False) -> str:
    css = ' class="wide"' if wide else ""
    return f"<section{css}>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n"


def _figures(figures: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in figures)
    return f'<div class="figures">{cells}</div>\n'


def _details(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f'<details><summary>{escape(title)}</summary><div class="scroll">{_table(head, rows)}</div></details>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cell: str, cells: Sequence[Any]) -> str:
        return "<tr>" + "".join(f"<{cell}>{escape(str(text))}</{cell}>" for text in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def _day(t: int) -> str:
    """Epoch ms as a UTC day; years that no calendar holds as they are."""
    try:
        return datetime.fromtimestamp(t / 1000, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{t} ms"
