"""What decodes records as the settings say, for the worker, the API, the view, the operator and a replay."""

from consumers.decode import InteractionDecoder, NodeDecoder
from streamer.settings import Settings


def interaction_decoder(settings: Settings) -> InteractionDecoder:
    """Decodes records of the interactions topic."""
    return InteractionDecoder(settings.field_map, settings.clock_skew_ms, settings.max_record_bytes)


def node_decoder(settings: Settings) -> NodeDecoder:
    """Decodes records of the topics of items and users."""
    return NodeDecoder(settings.clock_skew_ms, settings.max_record_bytes)
