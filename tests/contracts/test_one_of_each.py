"""What is done in one place: a second one is to use the first."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {
    "basicConfig(": {"streamer/cli/log_lines.py"},
    '"--json"': {"streamer/cli/flags.py"},
    "    return InteractionDecoder(\n        settings": {"streamer/runtime/decoders.py"},
    "NodeDecoder(settings": {"streamer/runtime/decoders.py"},
    "settings.interactions_topic, settings.items_topic": {"streamer/runtime/topics.py"},
    "yaml.safe_load": {"streamer/runtime/topics.py", "streamer/cli/rule_files.py"},
    "closing(open_log": set(),
    "closing(existing_log": set(),
}


@pytest.mark.parametrize("text", HOMES)
def test_it_stands_in_its_place_alone(text: str) -> None:
    sources = [file for package in ("streamer", "consumers") for file in (ROOT / package).rglob("*.py")]
    found = {str(file.relative_to(ROOT)) for file in sources if text in file.read_text()}
    assert found == HOMES[text]
