"""Values in JSON that a JSON Schema describes."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema.validators import Draft7Validator, validator_for
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from consumers.dead_letter import Reason
from consumers.decode_fields import Refused, decode_json


def json_reader(schema: str, references: Mapping[str, str]) -> Callable[[bytes], Any]:
    """A reader that checks values by the schema that wrote them. Nothing is fetched that the registry did not give."""
    contents = json.loads(schema)
    resources = [
        (name, Resource.from_contents(json.loads(text), default_specification=DRAFT7))
        for name, text in references.items()
    ]
    kind = validator_for(contents, default=Draft7Validator)
    kind.check_schema(contents)
    validator = kind(contents, registry=Registry().with_resources(resources))

    def read(data: bytes) -> Any:
        value = decode_json(data)
        for error in validator.iter_errors(value):
            raise Refused(Reason.NOT_OF_SCHEMA, f"{error.json_path[:200]} breaks the rule {error.validator!r}")
        return value

    return read
