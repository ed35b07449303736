"""The pages of reports: one HTML file, read without network or script, in light and dark, narrow and wide."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from streamer.evaluation.plots import Bars, bar_chart, whole
from streamer.evaluation.segments import Segment
from streamer.monitoring.prequential_quality import MEASURES

BOTH = (("ours", "Freshet"), ("theirs", "decayed popularity"))
SHORT = {"decayed popularity": "popularity"}  # names in the heads of tables


def page(title: str, summary: str, sections: Sequence[str]) -> str:
    """A whole page. title: text; summary, sections: HTML."""
    style = (files("streamer.evaluation") / "report.css").read_text("utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{escape(title)}</h1>\n{summary}"
        f"</header>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def grouped(
    title: str, about: str, groups: Sequence[Segment], names: Sequence[str], both: Sequence[tuple[str, str]] = BOTH
) -> str:
    """Quality by group: the hit rate as bars, everything as a table. both: (css class, name) of the two lines."""
    about = f"{about} {names[0]}."
    bars = [
        Bars(f"{g.name}: {whole(g.events)} events", [("ours", g.ours["hr"]), ("theirs", g.popularity["hr"])])
        for g in groups
    ]
    rows = [
        [g.name, whole(g.events), *(f"{side[name]:.4f}" for name in MEASURES for side in (g.ours, g.popularity))]
        for g in groups
    ]
    head = ("", "events", *(text for name in names for text in (name, SHORT.get(both[1][1], both[1][1]))))
    body = f"<p>{about}</p>{bar_chart(title, bars)}{key(both)}{details('all figures', head, rows)}"
    return section(title, body if groups else f"<p>{about}</p><p>No event is measured.</p>")


def key(lines: Iterable[tuple[str, str]]) -> str:
    """What the colours mean: (css class, name)."""
    names = " ".join(f'<span><i class="{css}"></i>{name}</span>' for css, name in lines)
    return f'<p class="key">{names}</p>'


def section(title: str, body: str, wide: bool = False) -> str:
    """A card with a heading. title: text; body: HTML."""
    css = ' class="wide"' if wide else ""
    return f"<section{css}>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n"


def figures(figures: Iterable[tuple[str, str]]) -> str:
    """Large figures, each (value, name)."""
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in figures)
    return f'<div class="figures">{cells}</div>\n'


def details(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that is folded away."""
    return f'<details><summary>{escape(title)}</summary><div class="scroll">{table(head, rows)}</div></details>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text."""

    def line(cell: str, cells: Sequence[Any]) -> str:
        return "<tr>" + "".join(f"<{cell}>{escape(str(text))}</{cell}>" for text in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"
