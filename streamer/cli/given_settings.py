"""The settings that a parsed command line gives."""

import argparse
from pathlib import Path
from typing import get_origin

from consumers.schemas import Interaction, Item, User
from streamer.errors import UsageError
from streamer.settings import Settings

FIELDS = tuple(dict.fromkeys(field for kind in (Interaction, Item, User) for field in kind.__struct_fields__))


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
    return Settings.load(file, **flags)


def _mapped(text: str) -> list[str]:
    """The pairs ours=theirs of one --map, between commas where each names a field. Raises UsageError."""
    first, *more = text.split(",")
    if "=" in first and not any("=" in part for part in more):
        return [text]  # a name of theirs may have commas
    pairs = [part.strip() for part in (first, *more)]
    if not all("=" in pair and (not more or pair.partition("=")[0] in FIELDS) for pair in pairs):
        raise UsageError(
            f"--map got {text!r}: it takes ours=theirs, such as user_id=uid; use --map once for each field"
        )
    return pairs
