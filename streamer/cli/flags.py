"""Flags that give settings, and the settings of a parsed command line."""

import argparse
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from consumers.schemas import Interaction, Item, User
from streamer.cli.homes import say_without_effect
from streamer.errors import UsageError
from streamer.settings import Settings

FIELDS = tuple(dict.fromkeys(field for kind in (Interaction, Item, User) for field in kind.__struct_fields__))


def add_setting_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds `--name` for settings by name; type, choices and help come from the setting itself."""
    for name in names:
        field = Settings.model_fields[name]
        flag = "--map" if name == "field_map" else "--" + name.replace("_", "-")
        kind: Any = field.annotation
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        help_ = _help(field).replace("%", "%%")
        if kind is bool:
            parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=help_)
        elif get_origin(kind) is dict:
            parser.add_argument(flag, dest=name, action="append", metavar="KEY=VALUE", default=None, help=help_)
        elif get_origin(kind) is tuple:
            allowed = get_args(get_args(kind)[0])
            parser.add_argument(flag, dest=name, action="append", choices=allowed, default=None, help=help_)
        else:
            choices = get_args(kind) if get_origin(kind) is Literal else None
            parser.add_argument(
                flag,
                dest=name,
                default=None,
                choices=choices,
                help=help_,
                metavar=None if choices else name.upper(),
            )


def _help(field: FieldInfo) -> str:
    """The description of a setting with its default, where it has one."""
    text, default = field.description or "", field.get_default()
    if default is None or default in ({}, ()) or "(default" in text:
        return text
    if isinstance(default, bool):
        default = "yes" if default else "no"
    if isinstance(default, dict):
        default = ", ".join(f"{name}={value}" for name, value in default.items())
    return f"{text} (default {default})"


def settings_of(arguments: argparse.Namespace, file: Path | None = None) -> Settings:
    """The settings of a parsed command line, over those of `file` instead of freshet.toml. Raises UsageError."""
    flags = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    for name, value in flags.items():
        if isinstance(value, list) and get_origin(Settings.model_fields[name].annotation) is dict:
            pairs = [pair for text in value for pair in (_mapped(text) if name == "field_map" else [text])]
            flags[name] = dict(pair.partition("=")[::2] for pair in pairs)
    settings = Settings.load(file, **flags)
    if file is None:
        say_without_effect(arguments, settings)
    return settings


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
