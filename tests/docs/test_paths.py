"""What the documents name is there: files, modules, and the functions of the files that they stand beside."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, written

NAMES = (
    "CONTRIBUTING.md", "tgn/README.md", "streamer/README.md", "consumers/README.md", "deploy/README.md",
    "tests/benchmarks/README.md", *(name for name in written() if "/reference/" not in name),
)  # fmt: skip
OURS = "streamer|consumers|tgn|tests|deploy"


def named(text: str) -> list[str]:
    """What stands between backticks, and in code."""
    fenced = re.findall(r"```.*?\n(.*?)```", text, re.S)
    indented = re.findall(r"^    .+$", text, re.M)
    return [*re.findall(r"`([^`\n]+)`", text), *fenced, *indented]


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a package, a module, or a name inside a module."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        head, rest = ROOT.joinpath(*parts[:n]), ".".join(parts[n:])
        if head.is_dir():
            return not rest
        if head.with_suffix(".py").is_file():
            return not rest or rest in defined(head.with_suffix(".py"))
    return False


@cache
def defined(file: Path) -> set[str]:
    """Functions, classes, methods as Class.method, and names at the top level."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_is_named_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not [link for link in links if not ((ROOT / name).parent / link).exists()]
    paths = {path for code in named(text) for path in re.findall(rf"(?<![\w/.])(?:{OURS})/(?:[\w-][\w.-]*/?)*", code)}
    assert not sorted(path for path in paths if not (ROOT / path).exists())


@pytest.mark.parametrize("name", NAMES)
def test_every_module_that_is_named_is_there_with_what_is_named_in_it(name: str) -> None:
    text = (ROOT / name).read_text()
    dotted = {path for code in named(text) for path in re.findall(rf"(?<![\w/.-])(?:{OURS})(?:\.\w+)+", code)}
    assert not sorted(path for path in dotted if not is_there(path))


@pytest.mark.parametrize("name", NAMES)
def test_every_function_that_stands_in_a_paragraph_with_a_file_is_in_that_file(name: str) -> None:
    wrong = []
    for paragraph in re.split(r"\n\n|\n(?=[|\d-])", (ROOT / name).read_text()):
        functions = set(re.findall(r"`((?:\w+\.)?\w+)\(\)`", paragraph))
        files = [ROOT / path for path in re.findall(r"`([\w/]+\.py)`", paragraph)]
        known = set[str]().union(*(defined(file) for file in files if file.is_file()))
        wrong += sorted(functions - known) if files else []
    assert not wrong


def test_the_glossary_is_of_words_that_the_code_uses() -> None:
    words = re.split(r"^## Words$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)[1]
    rows = re.findall(r"^\| (?!word \||---)([^|]+) \|", words, re.M)
    assert len(rows) == len(set(rows)) > 20
    sources = (
        file.read_text() for package in ("streamer", "consumers", "tgn") for file in (ROOT / package).rglob("*.py")
    )
    code = " ".join(sources).replace("_", " ").lower()
    assert not [word for row in rows for word in row.split(", ") if not re.search(rf"\b{word}", code)]
