"""The documents that people read, and the blocks of code in them."""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SITE = ROOT / "deploy" / "site"
DOCS = SITE / "docs"
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "deploy/README.md", "tests/benchmarks/README.md")
OWN_STREAM, KAFKA_PAGE, PRODUCE, SUBSCRIBE = (
    f"deploy/site/docs/{name}.md" for name in ("start/own-stream", "start/kafka", "guides/produce", "guides/subscribe")
)


class Block(NamedTuple):
    """A fenced block, `language` as it stands behind the fence, or an indented one, whose language is "indented"."""

    document: str
    language: str
    text: str


@cache
def nav() -> list[str]:
    """The pages of the site below DOCS, in the order of its navigation."""
    return list(_leaves(tomllib.loads((SITE / "zensical.toml").read_text())["project"]["nav"]))


def written() -> list[str]:
    """What is written by hand and read in this order: the README, then the pages of the site that lie in DOCS."""
    return ["README.md", *(f"deploy/site/docs/{page}" for page in nav() if (DOCS / page).is_file())]


def blocks(document: str) -> list[Block]:
    """Its blocks, in their order."""
    text = (ROOT / document).read_text()
    fenced = [
        Block(document, language, body) for language, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    ]
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    found = re.findall(r"(?:^    .*\n)+", rest, re.M)
    return [*fenced, *(Block(document, "indented", re.sub(r"^    ", "", body, flags=re.M)) for body in found)]


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in nav for part in entry.values() for page in _leaves(part)]
