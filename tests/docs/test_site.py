"""The site has every page in its navigation, and its sources name files that are there. Its build is in `make check`."""

import re

from deploy.generate.site import DOCS, ELSEWHERE, ROOT, page_text, pages
from tests.docs.pages import nav


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(nav()) == sorted(pages())


def test_links_lead_to_pages_or_become_paths() -> None:
    of_documents = {document.resolve(): page for page, document in pages().items()}
    index = page_text("results/index.md", DOCS / "results" / "index.md", of_documents)
    assert "[RESULTS](RESULTS.md)" in index
    model = page_text("internals/model.md", ROOT / "tgn" / "README.md", of_documents)
    assert "[RESULTS.md](../results/RESULTS.md)" in model
    assert "(`tgn/DECISIONS.md`)" in model
    assert "](DECISIONS.md)" not in model


def test_every_benchmark_is_on_the_page_of_results() -> None:
    named = set(re.findall(r"benchmarks/(\w+\.md)", (DOCS / "results" / "index.md").read_text()))
    assert named == {document.name for page, document in ELSEWHERE.items() if page.startswith("results/")}


def test_the_readme_is_a_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 90
    rows = re.findall(r"^\| .* \| \.\d.*$", readme, re.M)
    assert len(rows) == 6
    assert all(row in (DOCS / "results" / "index.md").read_text() for row in rows)


def test_every_claim_of_the_comparison_that_names_a_source_has_it() -> None:
    claims, sources = (DOCS / "comparison.md").read_text().split("## Sources")
    listed = re.findall(r"^(\d+)\. .*\]\(https://", sources, re.M)
    assert listed == [str(n + 1) for n in range(len(listed))]
    assert set(re.findall(r"\[(\d+)\]", claims)) == set(listed)
