"""What decodes records as the settings say, for the worker, the API, the view, the operator and a replay."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from consumers.decode_feedback import FeedbackDecoder
from consumers.decode_fields import Unframe
from consumers.decode_interactions import InteractionDecoder
from consumers.decode_nodes import NodeDecoder
from streamer.runtime.optional_packages import require
from streamer.settings import Settings

if TYPE_CHECKING:
    from consumers.schema_registry.registry import SchemaRegistry

_registries: dict[tuple[str, frozenset[tuple[str, Any]]], "SchemaRegistry"] = {}


def interaction_decoder(settings: Settings) -> InteractionDecoder:
    """Decodes records of the interactions topic."""
    return InteractionDecoder(
        settings.field_map, settings.clock_skew_ms, settings.max_record_bytes, make_unframe(settings)
    )


def node_decoder(settings: Settings) -> NodeDecoder:
    """Decodes records of the topics of items and users."""
    return NodeDecoder(settings.clock_skew_ms, settings.max_record_bytes, make_unframe(settings))


def feedback_decoder(settings: Settings) -> FeedbackDecoder:
    """Decodes records of the feedback topic."""
    return FeedbackDecoder(settings.clock_skew_ms, settings.max_record_bytes, make_unframe(settings))


def make_unframe(settings: Settings) -> Unframe | None:
    """Reads values that the settings' schema registry framed; None where there is no registry."""
    registry = get_registry(settings.schema_registry, settings.schema_registry_config)
    return registry.decode if registry is not None else None


def get_registry(url: str | None, config: Mapping[str, Any]) -> "SchemaRegistry | None":
    """The one client that this process has of a schema registry; it asks once for each schema.

    Raises UsageError where the extra is not installed, SettingRefused where the client does not take the keys.
    """
    if url is None:
        return None
    require("schema-registry", "authlib", "fastavro", "grpc_tools", "jsonschema")
    from consumers.schema_registry.registry import SchemaRegistry

    key = url, frozenset(config.items())
    if key not in _registries:
        _registries[key] = SchemaRegistry(url, config)
    return _registries[key]
