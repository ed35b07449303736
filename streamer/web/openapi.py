"""The API as an OpenAPI document, made of its endpoints and of the models that they name."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from inspect import getdoc
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from consumers.decode_fields import MAX_ID_BYTES
from consumers.schemas import RecommendationList
from streamer.runtime.version import installed_version
from streamer.web.bodies import CLOUDEVENT, CLOUDEVENTS, JSON, LINES
from streamer.web.endpoints import Endpoint
from streamer.web.front_answers import REFERENCE, Accepted, Error, PreviewedLists

CONTEXT = ("device", "geo", "os", "country", "referrer")  # of the keys that a dotted parameter may have


def openapi(endpoints: Iterable[Endpoint], root: str = "") -> dict[str, Any]:
    """The document. Paths of before are left out: they answer as those of /v1 do. root: what every path begins with."""
    shown = [
        endpoint
        for endpoint in endpoints
        if endpoint.path.startswith("/v1/") or endpoint.needs in ("health", "metrics")
    ]
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        paths.setdefault(re.sub(r":\w+}", "}", endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint)
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Freshet",
            "description": "Live recommendations from an event stream.",
            "version": installed_version() or "0",
        },
        **({"servers": [{"url": root}]} if root else {}),
        "paths": paths,
        "components": {"schemas": _schemas(shown), "securitySchemes": schemes},
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    said = (getdoc(endpoint.handler) or "").partition("\n\n")
    owner = type(getattr(endpoint.handler, "__self__", None)).__name__.removesuffix("Routes")
    operation = {
        "operationId": f"{owner}.{endpoint.handler.__name__}",
        "summary": said[0].rstrip("."),
        "description": " ".join(said[2].split()),
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": {
            **{str(status): _response(status, answer) for status, answer in _answers(endpoint).items()},
            "default": {"description": "why not", "content": _json(_reference(Error))},
        },
    }
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _content_of_body(endpoint.body)}
    return operation


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
    names = re.findall(r"{(\w+)", endpoint.path)
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = endpoint.parameters.model_json_schema()
    required = schema.get("required", [])
    given = []
    for name, field in schema.get("properties", {}).items():
        dotted = name == endpoint.parameters.dotted
        kind = {"type": "string"} if dotted else _kind(field)
        about = field.get("description") or kind.pop("description", "")
        for shown in [f"{name}.{part}" for part in CONTEXT] if dotted else [name]:
            parameter = {"name": shown, "in": "query", "required": name in required, "schema": kind}
            given.append(parameter | {"description": about})
    return given


def _kind(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter's value: null is no value, it is left out."""
    [*kinds] = (kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null")
    return {name: value for name, value in kinds[0].items() if name not in ("title", "default")}


def _content_of_body(body: Any) -> dict[str, Any]:
    """Records come one by one, as an array, as lines and as CloudEvents; a model is one object."""
    models = body if isinstance(body, tuple) else (body,)
    references = [_reference(model) for model in models]
    if issubclass(models[0], BaseModel):
        return _json(references[0] if len(references) == 1 else {"anyOf": references})
    [record] = references
    lines = {"schema": {"type": "string", "description": "one record a line"}}
    event = {"type": "object", "required": ["specversion", "id", "source", "type"]}
    return {
        **_json({"anyOf": [record, {"type": "array", "items": record}]}),
        LINES[0]: lines,
        CLOUDEVENT: {"schema": event},
        CLOUDEVENTS: {"schema": {"type": "array", "items": event}},
    }


def _answers(endpoint: Endpoint) -> dict[int, Any]:
    """What it answers with where all is well, by status: a model, several, a media type, or None for nothing."""
    answer = Accepted if endpoint.answer is None and endpoint.status == 202 else endpoint.answer
    return {endpoint.status: answer, **endpoint.also}


def _response(status: int, answer: Any) -> dict[str, Any]:
    content = {}
    if isinstance(answer, str):
        content = {"content": {answer: {"schema": {"type": "string"}}}}
    elif isinstance(answer, tuple):
        content = {"content": _json({"type": "object", "anyOf": [_reference(model) for model in answer]})}
    elif answer is not None:
        content = {"content": _json(_reference(answer))}
    return {"description": HTTPStatus(status).phrase} | content


def _schemas(endpoints: list[Endpoint]) -> dict[str, Any]:
    answers = (answer for endpoint in endpoints for answer in _answers(endpoint).values())
    several = (one if isinstance(one, tuple) else (one,) for one in (*(e.body for e in endpoints), *answers))
    named = dict.fromkeys(kind for kinds in several for kind in kinds)  # a set has another order each time
    named |= dict.fromkeys((Error, PreviewedLists, RecommendationList))  # in others, or the data of an event
    models = sorted((kind for kind in named if _is_model(kind)), key=lambda kind: str(kind.__name__))
    structs = [kind for kind in named if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    structs.sort(key=lambda kind: kind.__name__)  # the document is the same in every process
    _, of_models = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    _, of_structs = msgspec.json.schema_components(structs, ref_template=REFERENCE.replace("{model}", "{name}"))
    return {**of_models.get("$defs", {}), **of_structs}


def _reference(model: Any) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {JSON[0]: {"schema": schema}}
