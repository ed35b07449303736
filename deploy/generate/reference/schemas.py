"""JSON Schemas of what topics hold, from `consumers.schemas` and from the models of rules and experiments."""

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from consumers import schemas
from consumers.schemas import Feedback, Interaction, Item, Merge, User
from streamer.experiments.experiment_records import ArmStop, ExperimentRecord
from streamer.lists.rules import Rules

DIALECT = "https://json-schema.org/draft/2020-12/schema"
WRITTEN_BY_PRODUCERS: tuple[type[msgspec.Struct], ...] = (Interaction, Item, User, Feedback, Merge)
MODELS: tuple[type[BaseModel], ...] = (Rules, ExperimentRecord, ArmStop)
PARTS = (schemas.ListedItem, schemas.AsOf)  # of a list
_IDS = ("user_id", "item_id", "event_id", "session_id", "list_id", "merge")
_TIMES = ("timestamp", "available_from", "expires_at")
_GOLDEN = Path(__file__).parents[3] / "tests" / "golden" / "records.json"


@cache
def json_schemas() -> dict[str, dict[str, Any]]:
    """By name: the schema of each kind of record, whole in itself."""
    return {kind.__name__: _schema(kind) for kind in kinds()}


def kinds() -> list[type[Any]]:
    """Each kind of record that is JSON."""
    structs = [kind for kind in vars(schemas).values() if inspect.isclass(kind) and issubclass(kind, msgspec.Struct)]
    return [*(kind for kind in structs if kind not in PARTS), *MODELS]


def golden_values(name: str) -> list[dict[str, Any]]:
    """Records of a kind that an older version wrote, and that decode for ever; those in CloudEvents are left out."""
    records = json.loads(_GOLDEN.read_text())
    plain = (one for one in records if "headers" not in one and "specversion" not in one["value"])
    return [one["value"] for one in plain if one["schema"] == name]


def prose(kind: type[Any]) -> str:
    """What the docstring of a kind says, as Markdown."""
    return inspect.cleandoc(kind.__doc__ or "")


def prose_of(name: str) -> str:
    """The same of the kind of this name; "" where no topic holds it."""
    return next((prose(kind) for kind in kinds() if kind.__name__ == name), "")


def properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a schema of `json_schemas`."""
    inner = schema
    while "$ref" in inner:
        inner = schema["$defs"][inner["$ref"].rpartition("/")[2]]
    return dict(inner.get("properties", {}))


def required(schema: Mapping[str, Any]) -> list[str]:
    """The fields that a record must have."""
    inner = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return list(inner.get("required", []))


def kind_of(field: Mapping[str, Any]) -> str:
    """A field's type in words: string, integer or string, array of Pin, …"""
    return " or ".join(dict.fromkeys(_kinds(field)))


def _kinds(field: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in field:
        yield str(field["$ref"]).rpartition("/")[2]
    elif "enum" in field or "const" in field:
        yield ", ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    elif "anyOf" in field:
        for part in field["anyOf"]:
            yield from _kinds(part)
    elif field.get("type") == "array":
        item = field.get("items")
        yield f"array of {kind_of(item)}" if isinstance(item, dict) and item else "array"
    elif isinstance(field.get("type"), list):
        yield from field["type"]
    else:
        yield str(field.get("type", "anything"))


def _schema(kind: type[Any]) -> dict[str, Any]:
    made = kind.model_json_schema(by_alias=True) if issubclass(kind, BaseModel) else msgspec.json.schema(kind)
    if kind in WRITTEN_BY_PRODUCERS:
        fields = made["$defs"][kind.__name__]["properties"]
        made["$defs"][kind.__name__]["properties"] = {name: _as_sent(name, field) for name, field in fields.items()}
    return {"$schema": DIALECT, **made}


def _as_sent(name: str, field: dict[str, Any]) -> dict[str, Any]:
    """A field as a producer may send it: an id may be an integer, a time a text, and null is no value."""
    if name not in (*_IDS, *_TIMES):
        return field
    kinds_ = [part for part in field.get("anyOf", [field]) if part.get("type") != "null"]
    optional = ["null"] if "anyOf" in field else []
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "type")}
    assert len(kinds_) == 1
    if name in _IDS:
        return {"type": ["string", "integer", *optional], **rest}
    return {"type": ["integer", "string", *optional], "description": "epoch milliseconds, or ISO 8601", **rest}
