"""Every command with its flags, from the parser of the command line."""

import argparse
from collections.abc import Iterator

from deploy.generate.reference.markdown import code, fenced, page, sentence, table
from streamer.cli.main import COMMANDS, parser_for

COMMON = "for every command"  # the group that `add_common_flags` makes
FILES = "how files are read"

ABOUT = """\
`freshet COMMAND --help` says the same. A flag that is a setting wins over its environment variable and over
`freshet.toml`; see [Settings](settings.md). Exit codes: 0 all is well, 1 it failed, 2 a flag or setting is wrong, 3
the data is refused, 130 it was interrupted; see [Errors](errors.md)."""


def commands_page() -> str:
    """The page."""
    parsers = {name: _parser_of(name) for name in COMMANDS}
    overview = table(
        ["command", "what it does"],
        [[f"[`freshet {name}`](#freshet-{name})", what] for name, what in COMMANDS.items()],
    )
    [common] = (group for group in parsers["run"]._action_groups if group.title == COMMON)
    flags = "## Flags of every command\n\n" + table(["flag", "what"], _rows(common))
    return page("Commands", ABOUT, overview, flags, *(_section(name, parser) for name, parser in parsers.items()))


def _parser_of(name: str) -> argparse.ArgumentParser:
    parser = parser_for([name])
    [commands] = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    found = commands.choices[name]
    assert isinstance(found, argparse.ArgumentParser)
    return found


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    example = str(parser.epilog).removeprefix("example:\n").strip()
    parts = [f"## freshet {name}", str(parser.description), fenced(example, "console")]
    groups = [group for group in parser._action_groups if group.title != COMMON]
    for group in groups:
        if rows := list(_rows(group)):
            parts += [f"{sentence(group.title)[:-1]}:" if group.title == FILES else "", table(["flag", "what"], rows)]
    return "\n\n".join(part for part in parts if part)


def _rows(group: argparse._ArgumentGroup) -> Iterator[list[str]]:
    for action in group._group_actions:
        if not isinstance(action, argparse._HelpAction):
            yield [_name(action), str(action.help or "").replace("%%", "%")]


def _name(action: argparse.Action) -> str:
    """How it is written: with its flag and what stands behind it."""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    takes_value = action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction)
    value = "|".join(map(str, action.choices)) if action.choices is not None else metavar if takes_value else ""
    if not action.option_strings:
        return code(value)
    *others, last = action.option_strings
    return ", ".join([*map(code, others), code(f"{last} {value}".strip())])
