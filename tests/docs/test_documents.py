"""What the documents say of packages and topics holds."""

import re
from pathlib import Path

import yaml

from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests.docs.pages import DOCS, ROOT


def test_the_core_lock_is_a_part_of_the_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.M))

    assert pins("requirements.core.lock").items() <= pins("requirements.lock").items()
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_nobody_is_sent_to_the_project_that_has_our_name_on_pypi() -> None:
    """`freshet` there belongs to somebody else: what pip is asked for is called by the name of the distribution."""
    texts = [
        ROOT / "pyproject.toml",
        ROOT / "Makefile",
        *ROOT.glob("*.md"),
        *(ROOT / "deploy").glob("*.md"),
        *DOCS.rglob("*.md"),
    ]
    texts += [file for package in ("streamer", "tgn", "consumers") for file in (ROOT / package).rglob("*.py")]
    asked = re.compile(r"(?<![\w-])freshet\[|pip install[^\n`]*[ '\"]freshet(?![\w-])")
    assert {file.name: asked.findall(file.read_text()) for file in texts if asked.search(file.read_text())} == {}
    assert asked.search("pip install 'freshet[graph]'")
    assert asked.search("pip install --upgrade freshet")


def test_topics_yaml_is_the_only_source(tmp_path: Path) -> None:
    declared = yaml.safe_load((ROOT / "deploy/topics.yaml").read_text())
    assert {spec.name for spec in topic_specs(Settings.load())} == set(declared)
