"""The report of a comparison: for each pair the differences, where in the stream they are, and on whom."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from streamer.evaluation.comparison import PairedComparison, unlike
from streamer.evaluation.page import grouped, key, page, section, table
from streamer.evaluation.plots import Line, line_chart, whole
from streamer.evaluation.replay import ReplayOptions
from streamer.evaluation.segments import by_item_age, by_item_popularity, by_pair, by_user_age, windows
from streamer.monitoring.prequential_quality import metrics
from streamer.runtime.whole_files import whole_file


def write_report(
    path: Path, stream: str, pairs: Sequence[PairedComparison], confidence: float, options: ReplayOptions
) -> None:
    """Writes the report of comparisons with one A. `stream`: its name, for the title."""
    with whole_file(path) as part:
        part.write_text(comparison_report(stream, pairs, confidence, options), encoding="utf-8")


def comparison_report(stream: str, pairs: Sequence[PairedComparison], confidence: float, options: ReplayOptions) -> str:
    """The HTML of a report: the same stream gives the same bytes."""
    summary = (
        f"<p>Each list was made before its event was known, over the full catalogue; an item that is not listed is a "
        f"miss. Measured after the first {100 * options.measure_after:g} % of the events, those that both measure. "
        f"Intervals of {100 * confidence:g} % know that events of one user, and of one time, resemble each other.</p>"
    )
    return page(f"Freshet: compared on {stream}", summary, [part for pair in pairs for part in _of_pair(pair)])


def _of_pair(pair: PairedComparison) -> list[str]:
    a, b = pair.a.name, pair.b.name
    names = tuple(name.upper() for name in metrics(min(pair.a.settings.k, pair.b.settings.k)))
    both = (("ours", escape(b)), ("theirs", escape(a)))
    groups = (
        ("user age", "How many events the user had before this one.", by_user_age),
        ("item popularity", "How many events the item had before this one.", by_item_popularity),
        ("item age", "Time since the item was first taken, where it was.", by_item_age),
        ("pair", "Whether this user had taken this very item before.", by_pair),
    )
    return [
        section(f"{b} against {a}", _differences(pair), wide=True),
        *_over_time(pair, names, both),
        *(
            grouped(f"{b}: by {title}", about, of(pair.trace, pair.measured), names, both)
            for title, about, of in groups
        ),
    ]


def _differences(pair: PairedComparison) -> str:
    """What the difference is, and what can be said of it."""
    rows = [
        [d.metric.upper(), *(f"{x:.5f}" for x in (d.a, d.b)), f"{d.difference:+.5f}", f"{d.low:+.5f} … {d.high:+.5f}",
         d.verdict]
        for d in pair.differences
    ]  # fmt: skip
    settings = [[name, str(of_a), str(of_b)] for name, (of_a, of_b) in unlike(pair.a.settings, pair.b.settings).items()]
    hits = pair.hits
    counted = f"{whole(pair.measured.sum())} events, each under both"
    if pair.only_a or pair.only_b:
        counted += f"; {whole(pair.only_a)} measured under A only and {whole(pair.only_b)} under B only are left out"
    return (
        f"<p>A is {escape(pair.a.name)}, B is {escape(pair.b.name)}. {counted}.</p>"
        f'<div class="scroll">{table(("", "A", "B", "B − A", "interval", "B is"), rows)}</div>'
        f"<p>Hits that only A has: {whole(hits.only_a)}, only B: {whole(hits.only_b)}. McNemar's p is "
        f"{hits.p_in_words}, were events independent.</p>{table(('setting', 'A', 'B'), settings) if settings else ''}"
    )


def _over_time(pair: PairedComparison, names: Sequence[str], both: Sequence[tuple[str, str]]) -> list[str]:
    """The first measure in windows of the measured part, and how hits pile up that only one of them has."""
    at = windows(pair.trace)
    if not len(at.event):
        return []
    first, end = int(at.event[0]), int(at.event[-1])
    lines = [Line(css, at.event - first, side[:, 0]) for css, side in (("theirs", at.popularity), ("ours", at.ours))]
    chart = line_chart(f"{names[0]} over time", lines, max(end - first, 1), foot="event of the measured part")
    return [section(f"{pair.b.name}: {names[0]} over time", f"{chart}{key(both)}")]
