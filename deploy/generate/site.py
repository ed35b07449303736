"""`python -m deploy.generate.site FOLDER`: the pages of the site, assembled in a folder and built into FOLDER/html.

Pages are those of deploy/site/docs, and documents that lie elsewhere in the repository and are a page of the site too.
A link to a file that is a page leads to that page; one to any other file becomes its path as code.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
SITE = ROOT / "deploy" / "site"
DOCS = SITE / "docs"
CLIENTS = ROOT / "deploy" / "clients"
BENCHMARKS = ROOT / "tests" / "benchmarks"
ELSEWHERE = {  # page → document
    **{f"guides/clients/{name}.md": CLIENTS / name / "README.md" for name in ("python", "javascript", "kafka")},
    "operate/deployment.md": ROOT / "deploy" / "README.md",
    "internals/model.md": ROOT / "tgn" / "README.md",
    "internals/runtime.md": ROOT / "streamer" / "README.md",
    "internals/wire.md": ROOT / "consumers" / "README.md",
    "internals/contributing.md": ROOT / "CONTRIBUTING.md",
    "internals/reference-event.md": ROOT / "tgn" / "reference.py",
    **{f"results/{file.name}": file for file in sorted(BENCHMARKS.glob("*.md"))},
}
_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\((?!https?:|mailto:|#)([^)#\s]*)(#[^)\s]*)?\)")


def pages() -> dict[str, Path]:
    """By page of the site: the document that it is made of."""
    own = {file.relative_to(DOCS).as_posix(): file for file in sorted(DOCS.rglob("*.md"))}
    return {**own, **ELSEWHERE}


def page_text(page: str, document: Path, of_documents: dict[Path, str]) -> str:
    """The text of a page. of_documents: page by document. Code is left as it is."""
    text = document.read_text("utf-8")
    if document.suffix == ".py":
        return _source_page(text)
    if document == ROOT / "deploy" / "README.md":  # its tables are pages of their own
        text = re.sub(r"<!-- (metrics|alarms).*?<!-- /\1.*?-->", _reference_instead, text, flags=re.S)
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    return _join_links(parts, page, document, of_documents)


def assemble(folder: Path) -> None:
    """Writes all pages, with what stands beside them, and the configuration."""
    found = pages()
    of_documents = {document.resolve(): page for page, document in found.items()}
    shutil.copytree(DOCS, folder / "docs", dirs_exist_ok=True)
    shutil.copy(SITE / "zensical.toml", folder)
    texts = {page: page_text(page, document, of_documents) for page, document in found.items()}
    for page, text in texts.items():
        target = folder / "docs" / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def build(folder: Path) -> int:
    """Assembles and builds anew; 0 where no link is dead. Needs the extra `docs`."""
    for old in ("docs", "html", ".cache"):
        shutil.rmtree(folder / old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    assemble(folder)
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("zensical", path=beside)
    if program is None:
        print("zensical is not installed: pip install 'freshet-recommender[docs]'", file=sys.stderr)
        return 1
    return subprocess.run([program, "build", "--strict"], cwd=folder).returncode


def _join_links(parts: list[str], page: str, document: Path, of_documents: dict[Path, str]) -> str:
    """The parts of a text, links of those that are no code rewritten; a link may have code in its words."""
    text, code = "", list[str]()
    for part in parts:
        if part.startswith("`"):
            text += f"\0{len(code)}\0"
            code.append(part)
        else:
            text += part

    def rewritten(match: re.Match[str]) -> str:
        words, path, anchor = match[1], match[2], match[3] or ""
        target = (document.parent / path).resolve()
        if target in of_documents:
            here = PurePosixPath(page).parent
            return f"[{words}]({os.path.relpath(of_documents[target], here)}{anchor})"
        if target.is_relative_to(DOCS):  # a schema, an OpenAPI document: it stands beside the pages
            return match[0]
        return f"{words} (`{target.relative_to(ROOT).as_posix()}`)" if target.exists() else match[0]

    text = _LINK.sub(rewritten, text)
    return re.sub("\0(\\d+)\0", lambda match: code[int(match[1])], text)


def _reference_instead(match: re.Match[str]) -> str:
    page = {"metrics": "metrics", "alarms": "alarms"}[match[1]]
    return f"See [{page}](site/docs/reference/{page}.md)."


def _source_page(source: str) -> str:
    return (
        "# The reference event\n\nThe whole of `tgn/reference.py`: what the model does with one event, in NumPy. "
        "`tests/tgn/test_reference.py` takes a stream through it and through the kernels, and finds the same.\n\n"
        f"```py\n{source}```\n"
    )


def main() -> int:
    """Builds into the folder that the command line names."""
    return build(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
