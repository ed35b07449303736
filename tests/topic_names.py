"""Topics of one test's own on a broker that tests share."""

from streamer.settings import Settings


def topics_under(prefix: str) -> dict[str, str]:
    """Every setting that names a topic, with a name below the prefix."""
    names = [name for name in Settings.model_fields if name.endswith("_topic")]
    return {name: prefix + name.removesuffix("_topic") for name in names}
