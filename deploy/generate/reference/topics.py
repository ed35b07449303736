"""Every topic with its settings, its schemas and examples: a page, and an AsyncAPI document."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from deploy.generate.reference.markdown import code, fenced, page, table
from deploy.generate.reference.schemas import (
    MODELS,
    golden_values,
    json_schemas,
    kind_of,
    kinds,
    properties,
    prose,
    required,
)

_TOPICS = Path(__file__).parents[2] / "topics.yaml"
_PROJECT = Path(__file__).parents[3] / "pyproject.toml"


class Topic(NamedTuple):
    """What stands in the topic. who: who writes it; schemas: the kinds of its values, none where they are binary."""

    key: str
    who: str
    holds: str
    schemas: tuple[str, ...] = ()


HOLDS = {
    "interactions": Topic(
        "user_id", "producers, the HTTP API",
        "What users do. The same `event_id` of the same user with `\"retract\": true` takes an interaction back; for "
        "one without an id `event_id` is `@partition-offset`. A record with `merge` makes a session a user's. "
        "Values may be CloudEvents too: their `id`, `time` and `type` stand in for fields that the data lacks.",
        ("Interaction", "Merge"),
    ),
    "items": Topic(
        "item_id", "producers, the HTTP API",
        "Attributes of items; any other field is an attribute too. A tombstone deletes the item and takes back every "
        "interaction with it.", ("Item",),
    ),
    "users": Topic(
        "user_id", "producers, the HTTP API",
        "Attributes of users; any other field is an attribute too. A tombstone erases the user: state, list and all "
        "that came of them but learned weights.", ("User",),
    ),
    "recommendations": Topic(
        "user_id", "workers",
        "The newest list of each user, of the surface that the settings name. Another surface that is published has "
        "a topic of its own, `recommendations.SURFACE`. A tombstone withdraws a list.", ("RecommendationList",),
    ),
    "feedback": Topic(
        "user_id", "producers, the HTTP API",
        "What came of lists: impressions and outcomes that quote a `list_id`. `freshet run feedback` counts it.",
        ("Feedback",),
    ),
    "quality": Topic(
        "metric", "workers, `freshet run feedback`",
        "Quality so far, tested before each event was learned from: HR@10, NDCG@10 and MRR, ours and decayed "
        "popularity's (with `k` below 10: HR@k and NDCG@k, counted anew from the change on). Under `drift` an alarm "
        "where quality fell suddenly; under `business/<surface>/<arm>/<metric>` what lists bring, under `feedback` "
        "what became of its records; under `challenger/<experiment>/<arm>/<metric>` a model beside the live one.",
        ("Quality", "Drift", "Business", "CountedFeedback", "ChallengerQuality"),
    ),
    "interactions.dead": Topic(
        "of the original", "workers, `freshet run feedback`",
        "What could not be taken, byte for byte, with a reason in its headers: see [Dead letters](dead-letters.md).",
    ),
    "freshet.epochs": Topic("", "workers", "Internal: which records each committed epoch took.", ("EpochManifest",)),
    "freshet.observed": Topic(
        "", "workers",
        "Internal, Kafka: what each worker admitted of its partitions, for the others to observe. Binary. `run` makes "
        "the topic where it is missing, with the partitions of `interactions`.",
    ),
    "freshet.model": Topic(
        "seat", "workers",
        "Internal, Kafka: what each worker learned, a step for every 20 interactions or more, later 50, fewer "
        "where few come, for the others to add; nothing while there is one worker. Binary. `run` makes the topic "
        "where it is missing.",
    ),
    "freshet.workers": Topic(
        "seat", "workers",
        "Internal, Kafka: each start of a worker, of which the last one under a seat has it, and where workers answer "
        "questions. `run` makes the topic where it is missing.", ("SeatClaim", "WorkerAddress"),
    ),
    "freshet.rules": Topic(
        "surface", "`freshet rules`, `freshet experiment`, the HTTP API",
        "The rules of each surface. Beside the fields of the schema a record has `version`, `since_ms` and `before`, "
        "the versions that were in force until then.", ("Rules",),
    ),
    "freshet.experiments": Topic(
        "experiment", "`freshet experiment`, `freshet run feedback`",
        "Each experiment: arms, shares, goal, guards and state. Under `experiment/arm` that a guard has stopped an "
        "arm.", ("ExperimentRecord", "ArmStop"),
    ),
    "freshet.lists": Topic(
        "user_id", "workers",
        "Every list that left: asked ones as they were answered, published ones in their transaction unless "
        "`keep_lists` is off. `run` makes the topic where it is missing.", ("RecommendationList",),
    ),
}  # fmt: skip

SUMMARY = "Live recommendations from an event stream."

ABOUT = """\
`freshet topics create` makes them as this table says; `freshet topics ls` shows what is there. Names are settings
(`interactions_topic`, …), and `namespace` stands before each of them. A record's key decides its partition, by
murmur2 as in Kafka's Java client. A tombstone is a record without a value. Ids are strings or integers, which become
their decimal text; times are epoch milliseconds or ISO 8601. The value is JSON, or what a schema registry framed: see
[Send events](../guides/produce.md).

Machine-readable: [asyncapi.json](asyncapi.json) (AsyncAPI 3.0), and a JSON Schema for each kind of record, linked
below. Examples are records that an older version wrote; a test decodes them, since old records decode for ever."""


def topics_page() -> str:
    """The page."""
    topics = _settings()
    rows = []
    for name, one in topics.items():
        about = HOLDS[name]
        link = f"[`{name}`](#{_id(name)})"
        rows.append([link, about.key, str(one["partitions"]), one["cleanup"], _kept(one), about.who])
    overview = table(["topic", "key", "partitions", "cleanup", "kept for", "written by"], rows)
    shown: set[str] = set()
    return page("Topics", ABOUT, overview, *(_section(name, shown) for name in topics))


def asyncapi_document() -> dict[str, Any]:
    """AsyncAPI 3.0: producers send to `interactions`, `items`, `users` and `feedback`, and receive the rest."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, one in _settings().items():
        about = HOLDS[name]
        channels[_id(name)] = {
            "address": name,
            "description": about.holds,
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in about.schemas},
            "bindings": {"kafka": {"topic": name, "partitions": one["partitions"], "topicConfiguration": _config(one)}},
        }
        action = "receive" if about.who.startswith("producers") else "send"  # of the application, which Freshet is
        operations[f"{action}.{_id(name)}"] = {"action": action, "channel": {"$ref": f"#/channels/{_id(name)}"}}
    named = dict.fromkeys(kind for about in HOLDS.values() for kind in about.schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Freshet", "version": project_version(), "description": SUMMARY},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": {kind: _message(kind) for kind in named}},
    }  # fmt: skip


def _section(name: str, shown: set[str]) -> str:
    about = HOLDS[name]
    parts = [f"## {name} {{ #{_id(name)} }}", about.holds]
    for kind in about.schemas:
        parts.append(f"See [{kind}](#{kind.lower()})." if kind in shown else _kind(kind))
        shown.add(kind)
    return "\n\n".join(parts)


def _kind(name: str) -> str:
    [kind] = (kind for kind in kinds() if kind.__name__ == name)
    schema = json_schemas()[name]
    needed = required(schema)
    rows = []
    for field, about in properties(schema).items():
        default = code(json.dumps(about.get("default"), ensure_ascii=False))
        rows.append([code(field), kind_of(about), "required" if field in needed else default])
    examples = [fenced(json.dumps(value, ensure_ascii=False), "json") for value in golden_values(name)[:2]]
    described = [
        f"- {code(field)}: {about['description']}"
        for field, about in properties(schema).items()
        if kind in MODELS and "description" in about
    ]
    parts = [f"### {name}", prose(kind), table(["field", "type", "default"], rows), "\n".join(described), *examples]
    return "\n\n".join([part for part in parts if part] + [f"[{name}.json](schemas/{name}.json)"])


def _message(kind: str) -> dict[str, Any]:
    [found] = (one for one in kinds() if one.__name__ == kind)
    keys = [about.key for about in HOLDS.values() if kind in about.schemas]
    examples = [{"payload": value} for value in golden_values(kind)]
    key = {"bindings": {"kafka": {"key": {"type": "string", "description": keys[0]}}}} if keys[0] else {}
    return {
        "name": kind,
        "summary": prose(found).partition("\n\n")[0].replace("\n", " "),
        "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": json_schemas()[kind]},
        **key,
        **({"examples": examples} if examples else {}),
    }


def _settings() -> Mapping[str, Any]:
    topics: dict[str, Any] = yaml.safe_load(_TOPICS.read_text())
    return topics


def _config(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = {"retention.ms": one["retention_ms"]} if "retention_ms" in one else {}
    return {"cleanup.policy": one["cleanup"].split(","), **kept}


def _kept(one: Mapping[str, Any]) -> str:
    ms = one.get("retention_ms")
    if ms is None:
        return "the newest of each key"
    return "ever" if ms < 0 else f"{ms // 86_400_000} days"


def _id(topic: str) -> str:
    return topic.replace(".", "_")


def project_version() -> str:
    """The version that pyproject.toml says, whatever is installed."""
    return str(tomllib.loads(_PROJECT.read_text())["project"]["version"])
