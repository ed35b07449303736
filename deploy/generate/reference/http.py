"""Every path of the HTTP API, from its endpoints: a page, and the OpenAPI document that `/openapi.json` answers."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from consumers.open_log import open_log
from deploy.generate.reference.markdown import code, fenced, page, sentence, table
from deploy.generate.reference.schemas import golden_values, json_schemas, kind_of, properties, prose_of, required
from deploy.generate.reference.topics import project_version
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.endpoints import Endpoint
from streamer.web.materialized_view import View
from streamer.web.openapi import openapi

_WEB = Path(__file__).parents[3] / "streamer" / "web"
OF_THE_DOOR = {"Interaction": ("timestamp", "event_id"), "Feedback": ("timestamp", "event_id", "user_id")}
"""Fields that who sends them over HTTP may leave out: the door fills them in."""
SHOWN = ("get", "post", "put", "patch", "delete")

ABOUT = """\
`freshet up` and `freshet serve` answer these; a running one has them at `/docs`, to read and to try, and at
`/openapi.json`. Machine-readable here: [openapi.json](openapi.json) (OpenAPI 3.1). Paths without `/v1` of earlier
versions still answer.

Where there are keys (`api_key`, `api_key_file`) a request carries `Authorization: Bearer KEY` or `X-API-Key: KEY`,
and the column *scope* says what the key must allow; `admin` allows everything. Ids in paths are percent-encoded.
Bodies of records are one object, an array, NDJSON (`application/x-ndjson`) or CloudEvents, plain or gzip.
A field whose default is *the door's* is filled in where it is missing: the time with the clock, the id with one that
the answer gives back, the user of feedback with that of the list."""

ERRORS = """\
## Errors of the API

Every error is `{"error": {"code", "message", "field"?, "index"?}}`. `index`, and "record N" in a message, counts the
records of a body from 0, whatever holds them; a blank line of NDJSON is none. Beside the codes below a record that
cannot be taken has the code of its [dead letter](dead-letters.md), with 400, and nothing of the body is taken."""


def http_page() -> str:
    """The page."""
    document = openapi_document()
    scopes = {(one.path, one.method): one.needs for one in _endpoints()}
    paths = {_plain(path): path for path, _ in scopes}
    rows, parts = [], []
    for path, methods in document["paths"].items():
        for method in (method for method in SHOWN if method in methods):
            operation = methods[method]
            scope = scopes[paths[path], method.upper()]
            title = f"{method.upper()} {path}"
            rows.append([f"[`{title}`](#{_anchor(operation)})", sentence(operation["summary"]), _scope(scope)])
            parts.append(_section(title, operation))
    codes = table(["status", "code", "message, such as"], _errors())
    return page("HTTP API", ABOUT, table(["method and path", "what it does", "scope"], rows), *parts, ERRORS, codes)


@cache
def openapi_document() -> dict[str, Any]:
    """OpenAPI 3.1, with the version of the project."""
    document = openapi(_endpoints())
    components = document["components"]
    in_order = dict(sorted(components["schemas"].items()))  # those that are no models come out of a set
    return {
        **document,
        "info": {**document["info"], "version": project_version()},
        "components": {**components, "schemas": in_order},
    }


@cache
def _endpoints() -> list[Endpoint]:
    settings = Settings.model_construct()  # the defaults, whatever the environment says
    with TemporaryDirectory() as folder:
        log = open_log(None, Path(folder), Path(folder) / "state")
        try:
            return Gateway(log, settings, View(log, settings)).endpoints()
        finally:
            log.close()


def _plain(path: str) -> str:
    return re.sub(r":\w+}", "}", path)


def _anchor(operation: Mapping[str, Any]) -> str:
    return str(operation["operationId"]).replace(".", "-").lower()


def _scope(needs: str) -> str:
    return {"health": "none; `health_public`", "metrics": "none on loopback; `metrics_public`", "open": "none"}.get(
        needs, needs
    )


def _section(title: str, operation: Mapping[str, Any]) -> str:
    parts = [f"## {title} {{ #{_anchor(operation)} }}", sentence(operation["summary"]), operation["description"]]
    rows = [
        [code(one["name"]), one["in"], _kind(one["schema"]), one.get("description", "")]
        for one in operation["parameters"]
    ]  # fmt: skip
    if rows:
        parts.append(table(["parameter", "in", "type", "what"], rows))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {', '.join(code(kind) for kind in body['content'])}.")
        parts += [_fields(name) for name in _named(body["content"]["application/json"]["schema"])]
    answers = [f"{status} {HTTPStatus(int(status)).phrase}" for status in operation["responses"] if status != "default"]
    parts.append(f"Answers {', '.join(answers)}.")
    return "\n\n".join(part for part in parts if part)


def _named(schema: Mapping[str, Any]) -> list[str]:
    """The schemas that a body may be of, each once."""
    found = [name for part in schema.get("anyOf", []) for name in _named(part)]
    found += _named(schema["items"]) if "items" in schema else []
    found += [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
    return list(dict.fromkeys(found))


def _fields(name: str) -> str:
    """The fields of a schema; of a record as its producers may send it."""
    schema = json_schemas().get(name) or openapi_document()["components"]["schemas"][name]
    of_door = OF_THE_DOOR.get(name, ())
    needed = [field for field in required(schema) if field not in of_door]
    rows = []
    for field, about in properties(schema).items():
        default = "the door's" if field in of_door else code(json.dumps(about.get("default"), ensure_ascii=False))
        rows.append(
            [code(field), kind_of(about), "required" if field in needed else default, about.get("description", "")]
        )
    told = prose_of(name) or str(schema.get("description", ""))
    example = [fenced(json.dumps(value, ensure_ascii=False), "json") for value in golden_values(name)[:1]]
    head = ["field", "type", "default", "what"]
    return "\n\n".join(
        [f"{code(name)}: {told}" if told else code(name), *([table(head, rows)] if rows else []), *example]
    )


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    return str(schema.get("type", ""))


def _errors() -> Iterator[list[str]]:
    """Status, code and message of each ApiError that the sources raise by name, each code of a status once."""
    found: dict[tuple[int, str], str] = {}
    for file in sorted(_WEB.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(ast.Name("ApiError"), [ast.Constant(int(status)), ast.Constant(str(name)), *rest]):
                    message = _message(rest[0]) if rest else ""
                    found[status, name] = found.get((status, name)) or (message if message.strip("… ") else "")
    for (status, name), message in sorted(found.items()):
        yield [str(status), code(name), message]


def _message(node: ast.expr) -> str:
    """The text of a message; … for what it fills in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_message(part) for part in node.values)
    return "…"
