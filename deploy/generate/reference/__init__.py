"""The reference pages of the site, from the code: commands, settings, topics, the HTTP API, metrics, errors."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from deploy.generate.reference.commands import commands_page
from deploy.generate.reference.errors import dead_letters_page, errors_page
from deploy.generate.reference.http import http_page, openapi_document
from deploy.generate.reference.metrics import alarms_page, metrics_page
from deploy.generate.reference.schemas import json_schemas
from deploy.generate.reference.settings import settings_page
from deploy.generate.reference.topics import asyncapi_document, topics_page

FOLDER = "site/docs/reference"
_DEPLOY = Path(__file__).parents[2]


@cache
def reference() -> dict[str, str]:
    """Text by path below deploy/."""
    tables = (_DEPLOY / "README.md").read_text()
    pages = {
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "topics.md": topics_page(),
        "http.md": http_page(),
        "metrics.md": metrics_page(tables),
        "alarms.md": alarms_page(tables),
        "errors.md": errors_page(),
        "dead-letters.md": dead_letters_page(),
    }
    documents = {
        "openapi.json": openapi_document(),
        "asyncapi.json": asyncapi_document(),
        **{f"schemas/{name}.json": schema for name, schema in json_schemas().items()},
    }
    texts = {**pages, **{name: _json(document) for name, document in documents.items()}}
    return {f"{FOLDER}/{name}": text for name, text in texts.items()}


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
