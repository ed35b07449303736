"""What `up` is given reaches its processes as it was given; how they live is in tests/faults/test_up.py."""

import pytest

from streamer.cli.commands.up import _variables
from streamer.cli.flags import settings_of
from streamer.cli.main import parser_for
from streamer.settings import Settings

GIVEN = [
    ("--k", "5"),
    ("--exclude-seen",),
    ("--no-exclude-seen",),
    ("--map", "user_id=uid"),
    ("--api-key", "s3cret"),
    ("--api-key-file", "a folder/keys"),
    ("--log-level", "debug"),
    ("--too-late", "dead-letter"),
    ("--embeddings", "embeddings"),
    ("--set", 'event_weights={"view": 2, "rating": "value-mean"}'),
    ("--event-weight", "buy=5"),
    ("--set", "kafka.linger.ms=5"),
    ("--set", "cors_origins=https://a.example,https://b.example"),
    ("--set", "without=memory"),
    ("--set", "metrics_public=true"),
]


@pytest.mark.parametrize("flags", [*GIVEN, tuple(part for flags in GIVEN for part in flags)])
def test_flags_become_variables_that_say_the_same(
    flags: tuple[str, ...], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["up", "--log", "log", *flags]
    arguments = parser_for(line).parse_args(line)
    given = settings_of(arguments)
    variables = _variables(arguments, given)
    assert variables
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert Settings.load(log="log").model_dump() == given.model_dump()
