"""The settings that a parsed command line gives."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from consumers.files.names import is_left_side
from streamer.errors import UsageError
from streamer.settings import Settings


def load_settings(arguments: argparse.Namespace, file: Path | None = None) -> Settings:
    """The settings of a parsed command line, over those of `file` instead of freshet.toml. Raises UsageError."""
    flags = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    for name, value in flags.items():
        if isinstance(value, list) and get_origin(Settings.model_fields[name].annotation) is dict:
            pairs = [pair for text in value for pair in (_mapped(text) if name == "field_map" else [text])]
            flags[name] = dict(pair.partition("=")[::2] for pair in pairs)
    for name, value in getattr(arguments, "set", {}).items():
        table = flags.get(name)
        flags[name] = {**table, **value} if isinstance(table, dict) and isinstance(value, dict) else value
    settings = Settings.load(file, **flags)
    if given := getattr(arguments, "event_weight", None):
        return Settings.load(file, **flags | {"event_weights": _weights(settings.event_weights, given)})
    return settings


def _weights(weights: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """The weights with those of each --event-weight, whose type is one without regard to case. Raises UsageError."""
    for text in given:
        name, equals, weight = text.rpartition("=")
        if not name or not equals:
            raise UsageError(f"--event-weight got {text!r}: it takes TYPE=WEIGHT, such as buy=5")
        weights = {kept: w for kept, w in weights.items() if kept.casefold() != name.casefold()} | {name: weight}
    return dict(weights)


def _mapped(text: str) -> list[str]:
    """The pairs ours=theirs of one --map, between commas where each names a field. Raises UsageError."""
    first, *more = text.split(",")
    if "=" in first and not any("=" in part for part in more):
        return [text]  # a name of theirs may have commas
    pairs = [part.strip() for part in (first, *more)]
    if not all("=" in pair and (not more or is_left_side(pair.partition("=")[0])) for pair in pairs):
        raise UsageError(
            f"--map got {text!r}: it takes ours=theirs, such as user_id=uid; use --map once for each field"
        )
    return pairs
