"""What values the Helm chart takes: values.schema.json, from values.yaml and the settings."""

from collections.abc import Mapping
from typing import Any

from streamer.settings import Settings

KINDS = {bool: "boolean", int: "integer", str: "string", list: "array"}


def chart_schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema that knows the names and kinds of `values`, so that Helm refuses a name with a typo.

    An empty table takes anything but for `settings`, whose names are those of Freshet's settings.
    """
    schema: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#", **_of_table(values)}
    schema["properties"]["global"] = {"type": "object"}  # Helm's own, where the chart is part of another
    named = [name for name in Settings.model_fields if name != "bootstrap"]  # that one is a value of its own
    schema["properties"]["settings"] = {"type": "object", "propertyNames": {"enum": named}}
    return schema


def _of_table(values: Mapping[str, Any]) -> dict[str, Any]:
    if not values:
        return {"type": "object"}
    properties = {name: _of_table(v) if isinstance(v, dict) else {"type": KINDS[type(v)]} for name, v in values.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}
