"""Which settings the state or the lists depend on, and what of them stands in manifests and in the checkpoint.

Every setting is in one of these groups. What changes with a restart is recorded in the manifest of the first epoch that
was taken with it, so recovery, rebuild and audit take each epoch with the settings that were in force.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from streamer.settings import Settings
from tgn.config import EQUATIONS

MODEL = frozenset({"window", "every_item_below", "without", "seed"})
"""What the model is made of: a state keeps it for life."""

STREAM = frozenset({"interactions_topic", "items_topic", "users_topic", "epochs_topic"})
"""What the state was made from: it keeps that for life as well."""

CHANGEABLE = frozenset(
    {
        # how records are read
        "field_map", "clock_skew_ms", "max_record_bytes",
        # what counts, and how much
        "event_weights", "max_weight", "dedup_window", "allowed_lateness_ms", "too_late", "request_context",
        # lists, and where outputs go
        "k", "exclude_seen", "surface", "publish_distance", "recommendations_topic", "quality_topic", "dead_topic",
    }
)  # fmt: skip
"""What may change from one epoch to the next."""

AT_ONCE = CHANGEABLE - {
    "field_map", "clock_skew_ms", "max_record_bytes", "recommendations_topic", "quality_topic", "dead_topic",
}  # fmt: skip
"""What of these a worker takes on while it runs; the others, and those of the other groups, need a restart."""

ELSEWHERE = frozenset(
    {
        # where things are and who one is: not what is computed
        "bootstrap", "log", "state", "application", "namespace", "namespaces", "kafka", "feedback_topic", "embeddings",
        # where epochs are cut and what is waited for: each manifest says what came of it
        "commit_interval_ms", "max_epoch_events", "checkpoint_interval_ms", "alignment_ms", "shadow_events",
        "age_after_s", "age_distance", "ageing_share",
        "on_position_gone", "on_log_damaged", "group_protocol", "delivery", "workers_topic",
        # what is said of the work, and other processes
        "log_level", "log_format",
        "neo4j_user", "neo4j_password", "redis_user", "redis_password", "redis_prefix",
        "host", "port", "api_key", "metrics_host", "metrics_port", "max_body_bytes",
        "api_key_file", "health_public", "metrics_public", "allowed_hosts", "cors_origins", "max_streams",
        "request_timeout_s", "append_timeout_s", "api_host", "api_port", "api_address", "lists_topic",
        "rules_topic", "experiments_topic", "keep_lists", "observed_topic", "model_topic", "observe", "schema_registry",
        "schema_registry_config", "tls_certificate", "tls_key", "tls_key_password",
        # what is counted of what came of lists
        "feedback_events", "attribution", "attribution_window_s", "feedback_lateness_s", "feedback_window_s",
    }
)  # fmt: skip
"""What neither the state nor a list depends on, given the manifests."""

Recorded = dict[str, Any]  # setting → value, as JSON has it


def recorded(settings: Settings) -> Recorded:
    """What manifests and checkpoints hold of the settings, and the equations of this version's model beside them."""
    return settings.model_dump(mode="json", include=set(MODEL | CHANGEABLE)) | {"equations": EQUATIONS}


def equations_of(values: Mapping[str, Any] | None) -> int:
    """The equations of the model that these were recorded with, see `tgn.config.EQUATIONS`; at first none were."""
    return int((values or {}).get("equations", 1))


def identity(settings: Settings) -> Recorded:
    """What a state was made from, which no later worker may change."""
    return settings.model_dump(mode="json", include=set(STREAM))


def with_recorded(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with those that may change as they were recorded; the default where a version did not know one."""
    fields = Settings.model_fields
    known = {name: _adapter(name).validate_python(values[name]) for name in CHANGEABLE if name in values}
    unknown = {name: fields[name].get_default(call_default_factory=True) for name in CHANGEABLE - known.keys()}
    return settings.model_copy(update=unknown | known)


def with_those_read(settings: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """The settings with what a running worker can take on of those that were read again, and the names of the others
    that differ."""
    names = sorted(name for name in type(settings).model_fields if getattr(settings, name) != getattr(read, name))
    changed = {name: getattr(read, name) for name in names if name in AT_ONCE}
    return settings.model_copy(update=changed), [name for name in names if name not in AT_ONCE]


def with_model(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with the model as it was recorded."""
    return settings.model_copy(
        update={name: _adapter(name).validate_python(values[name]) for name in MODEL if name in values}
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What is another now, for people: `k 20 → 10, surface default → home`."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name} {before.get(name)} → {after.get(name)}" for name in names)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    annotation: Any = Settings.model_fields[name].annotation
    return TypeAdapter(annotation)
