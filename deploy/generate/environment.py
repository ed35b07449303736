"""example.env, from the settings."""

from pydantic.fields import FieldInfo
from pydantic_core import to_json

from streamer.settings import PREFIX, Settings

HEAD = """\
# Every setting, with its default. Copy this file and take away the `# ` before what is to be otherwise: compose reads
# deploy/.env, the systemd units /etc/freshet/freshet.env, and a shell after `set -a`. Tables and lists are JSON.
"""


def example_environment() -> str:
    """The text of example.env: a comment and a line in a comment for each setting, in the order of `Settings`.

    A setting without a default has an empty line, which is to be filled.
    """
    return HEAD + "".join(
        f"\n# {name}: {field.description}\n# {PREFIX}{name.upper()}={_value(field)}\n"
        for name, field in Settings.model_fields.items()
    )


def _value(field: FieldInfo) -> str:
    """As a shell, systemd and compose read it: in quotes where it is more than a word."""
    if field.default is None or field.default == "":
        return ""
    text = field.default if isinstance(field.default, str) else to_json(field.default).decode()
    return text if text.replace(".", "").replace("-", "").isalnum() else f"'{text}'"
