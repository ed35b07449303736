"""Every setting, from the model of the settings, in the groups that its comments make."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_json

from deploy.generate.reference.markdown import code, page, sentence, table
from streamer.settings import Settings
from streamer.state.in_force import AT_ONCE, MODEL, STREAM

ABOUT = """\
A flag wins over an environment variable `FRESHET_…`, which wins over `freshet.toml` in the folder where the command
is started; where none of them says anything the default counts. `--set NAME=VALUE` is the flag of any setting, on
every command: `--set alignment_ms=500`, `--set kafka.linger.ms=5`. In the environment a table is JSON, or one
variable a key: `FRESHET_EVENT_WEIGHTS__BUY=5`. A wrong value is refused with the name of the setting, what it got and
what it may be; so is a name that is no setting. `deploy/example.env` has all of them as variables.

The last column says how a running worker comes to another value:

- *reload*: send SIGHUP to `freshet run` or `freshet up`; it counts from the next epoch on. A flag stays on top of the
  file.
- *restart*: end the process and start it again.
- *fixed*: the state was made with it. Another value is refused until `freshet checkpoint rm`, or with another
  `application`."""


def settings_page() -> str:
    """The page."""
    head = ["setting", "default", "what it is", "may be", "changes by"]
    groups = [f"## {title}\n\n" + table(head, [_row(name) for name in names]) for title, names in _groups()]
    return page("Settings", ABOUT, *groups)


def _groups() -> Iterator[tuple[str, list[str]]]:
    """The comments between the fields, each with the fields below it."""
    fields = inspect.getsource(Settings).partition("@field_validator")[0]
    for part in re.split(r"^    # ", fields, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        names = re.findall(r"^    (\w+): ", body, re.M)
        yield sentence(title)[:-1], [name for name in names if name in Settings.model_fields]


def _row(name: str) -> list[str]:
    field = Settings.model_fields[name]
    changes = "reload" if name in AT_ONCE else "fixed" if name in MODEL | STREAM else "restart"
    return [code(name), code(_default(field)), field.description or "", _bounds(field), changes]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None or default in ("", {}, [], ()):
        return ""
    return default if isinstance(default, str) else to_json(default).decode().replace('":', '": ').replace(',"', ', "')


def _bounds(field: FieldInfo) -> str:
    if isinstance(field.annotation, type) and issubclass(field.annotation, bool):
        return "true, false"
    named = [value for kind in _parts(field.annotation) if get_origin(kind) is Literal for value in get_args(kind)]
    if named and get_origin(field.annotation) is not dict:
        return ", ".join(code(value) for value in named)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(bound, name):,g}"
        for bound in field.metadata
        for name, sign in signs.items()
        if getattr(bound, name, None) is not None
    ]
    return ", ".join(limits)


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    if get_origin(kind) is not Literal:
        for part in get_args(kind):
            yield from _parts(part)
