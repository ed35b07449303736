"""Pieces of Markdown pages."""

from collections.abc import Iterable, Sequence

MADE = "<!-- Made by `python -m deploy.generate`; changes here are lost. -->\n"


def page(title: str, *parts: str) -> str:
    """A page: its title and its parts, with an empty line between them."""
    return "\n\n".join([MADE + f"\n# {title}", *(part.strip("\n") for part in parts if part)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what is between two bars of a cell stays in that cell."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Text as code, "" where there is none."""
    return f"`{text}`" if text else ""


def fenced(text: str, language: str) -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "…")) else f"{whole}."


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
