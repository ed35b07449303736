"""The reference is what the code says, and says all of it: `python -m deploy.generate` makes it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from consumers.dead_letter import Reason
from consumers.errors import FreshetError
from deploy.generate.reference import FOLDER, reference
from deploy.generate.reference.schemas import golden_values, json_schemas, kinds
from deploy.generate.reference.topics import HOLDS, asyncapi_document
from deploy.generate.tables import alarm_rows, metric_rows
from streamer.cli.main import COMMANDS
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests.docs.deployed import DEPLOY
from tests.docs.pages import ROOT

TABLES = (DEPLOY / "README.md").read_text()
NAMES = {
    "commands.md": {f"## freshet {name}" for name in COMMANDS},
    "settings.md": {f"| `{name}` |" for name in Settings.model_fields},
    "topics.md": {f"## {spec.name} {{" for spec in topic_specs(Settings())}
    | {f"### {kind.__name__}" for kind in kinds()},
    "metrics.md": {f"| `{row.name}` | {row.kind} |" for row in metric_rows(TABLES) if row.name != "freshet_business"},
    "alarms.md": {f"## {row.name}" for row in alarm_rows(TABLES)},
    "dead-letters.md": {f"| `{reason}` |" for reason in Reason},
}


def page(name: str) -> str:
    return (DEPLOY / FOLDER / name).read_text()


def test_what_is_committed_is_what_is_made() -> None:
    committed = {f"{FOLDER}/{file.relative_to(DEPLOY / FOLDER).as_posix()}" for file in (DEPLOY / FOLDER).rglob("*.*")}
    assert committed == reference().keys()
    stale = [name for name, text in reference().items() if (DEPLOY / name).read_text() != text]
    assert stale == [], "run `python -m deploy.generate`"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_everything_is_on_its_page_once(name: str) -> None:
    text = page(name)
    assert {wanted: text.count(wanted) for wanted in NAMES[name]} == dict.fromkeys(NAMES[name], 1)


def errors(kind: type[FreshetError] = FreshetError) -> Iterator[type[FreshetError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from errors(inner)


def test_every_error_is_on_its_page_with_its_exit_code() -> None:
    text = page("errors.md")
    for kind in {found for found in errors() if found.__module__ in ("consumers.errors", "streamer.errors")}:
        [row] = re.findall(rf"^\| `{kind.__name__}` \|.*$", text, re.M)
        assert f"| {kind.exit_code} |" in row
        assert not row.endswith("|  |")


def test_every_path_of_the_api_is_on_its_page() -> None:
    paths = json.loads(page("openapi.json"))["paths"]
    wanted = {f"## {method.upper()} {path} {{" for path, methods in paths.items() for method in methods}
    text = page("http.md")
    assert len(wanted) >= 40
    assert {one for one in wanted if text.count(one) != 1} == set()


def test_every_body_of_the_api_is_told_field_by_field() -> None:
    document, text = json.loads(page("openapi.json")), page("http.md")
    schemas, told = document["components"]["schemas"], 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            section = text.partition(f"## {method.upper()} {path} {{")[2].partition("\n## ")[0]
            content = operation["requestBody"]["content"]["application/json"]["schema"]
            for name in {found.rpartition("/")[2] for found in references(content)}:
                fields = schemas[name].get("properties", {})
                told += len(fields)
                assert [field for field in fields if f"| `{field}` |" not in section] == [], path
    assert told > 50


def test_every_topic_has_its_settings_and_its_schemas() -> None:
    document = asyncapi_document()
    specs = {spec.name: spec for spec in topic_specs(Settings())}
    assert HOLDS.keys() == specs.keys()
    for channel in document["channels"].values():
        kafka = channel["bindings"]["kafka"]
        assert kafka["partitions"] == specs[channel["address"]].partitions
    assert document["components"]["messages"].keys() == {kind.__name__ for kind in kinds()}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_a_document_refers_to_what_it_holds(name: str) -> None:
    document = json.loads(page(name))
    for one in set(references(document)):
        found: Any = document
        parts = one.removeprefix("#/").split("/")
        if parts[0] == "$defs":  # inside a schema, which is whole in itself
            continue
        for part in parts:
            found = found[part]


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_golden_records_are_of_their_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (the extra schema-registry)")
    validator = jsonschema.Draft202012Validator(json_schemas()[name])
    validator.check_schema(json_schemas()[name])
    for value in golden_values(name):
        validator.validate(value)


def test_a_schema_refuses_what_the_decoder_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (the extra schema-registry)")
    validator = jsonschema.Draft202012Validator(json_schemas()["Interaction"])
    whole = {"user_id": 7, "item_id": "tea", "event_type": "view", "timestamp": "2026-01-01T10:00:00Z"}
    assert validator.is_valid(whole)
    for field in whole:
        assert not validator.is_valid({name: value for name, value in whole.items() if name != field})
        assert not validator.is_valid(whole | {field: []})


def test_the_version_is_that_of_the_project() -> None:
    [version] = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert json.loads(page("openapi.json"))["info"]["version"] == version
    assert json.loads(page("asyncapi.json"))["info"]["version"] == version
