"""Flags that give settings, and the settings of a parsed command line."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic.fields import FieldInfo

from streamer.cli.given_settings import load_settings
from streamer.cli.homes import say_without_effect
from streamer.cli.log_lines import set_up_logging
from streamer.settings import Settings


class SetAction(argparse.Action):
    """`--set NAME=VALUE`: a setting by its name, as if it had a flag; of several that give it the last one counts.

    A table is given a key at a time, `--set kafka.linger.ms=5`, or as JSON; so is a list, or with commas.
    """

    def __call__(self, parser: object, namespace: argparse.Namespace, text: Any, option_string: object = None) -> None:
        name, equals, value = text.partition("=")
        if not equals:
            raise argparse.ArgumentError(self, f"{text!r} is not NAME=VALUE")
        name, dot, key = name.partition(".")
        given = dict(namespace.set)
        table = {key: value} if dot else _value_of(name, value)
        if isinstance(table, dict):
            given[name] = {**given.get(name, {}), **table}
        elif hasattr(namespace, name) and name in Settings.model_fields:
            setattr(namespace, name, table)
        else:
            given[name] = table
        namespace.set = given


JSON_FLAG = "--json"


def _value_of(name: str, text: str) -> Any:
    """What a text means for a setting: of lists and tables JSON, else the text itself; the setting checks it."""
    kind = get_origin(Settings.model_fields[name].annotation) if name in Settings.model_fields else None
    if kind not in (dict, list, tuple):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text if kind is dict else [part.strip() for part in text.split(",")]


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every command has."""
    group = parser.add_argument_group("for every command")
    group.add_argument(
        "--set",
        action=SetAction,
        default={},
        metavar="NAME=VALUE",
        help="any setting by its name, such as alignment_ms=500 or kafka.linger.ms=5; may be given several times",
    )
    add_setting_flags(group, "log_level", "log_format")


def add_actions(parser: argparse.ArgumentParser, actions: Mapping[str, str]) -> None:
    """Adds what a command of several actions does: name → help."""
    help_ = "; ".join(f"{name}: {what}" for name, what in actions.items())
    parser.add_argument("action", choices=tuple(actions), help=help_)


def add_json_flag(parser: argparse.ArgumentParser, what: str = "one JSON object") -> None:
    """Adds `--json`: the answer for machines."""
    parser.add_argument(JSON_FLAG, action="store_true", help=f"print {what}")


def add_event_weight_flag(parser: argparse._ActionsContainer) -> None:
    """Adds `--event-weight`: a weight beside those of the setting `event_weights`."""
    parser.add_argument(
        "--event-weight",
        action="append",
        metavar="TYPE=WEIGHT",
        help="weight of an event type beside those of the settings, such as buy=5; may be given several times",
    )


def add_setting_flags(parser: argparse._ActionsContainer, *names: str) -> None:
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
    """The settings of a parsed command line, see `load_settings`; sets up logging, and says what has no effect."""
    settings = load_settings(arguments, file)
    set_up_logging(arguments, settings)
    if file is None:
        say_without_effect(arguments, settings)
    return settings
