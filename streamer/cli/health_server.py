"""/livez, /readyz and /metrics of a process without other endpoints."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.web.health import Measured

_logger = logging.getLogger(__name__)


@contextmanager
def health(settings: Settings, metrics: "Measured") -> Iterator[None]:
    """Answers them meanwhile, where a port is set."""
    if settings.metrics_port is None:
        yield
        return
    from streamer.web.health import health_app
    from streamer.web.server import WebServer

    server = WebServer(
        health_app(metrics, settings.metrics_host), settings.metrics_host, settings.metrics_port, "--metrics-port"
    )
    server.start()
    _logger.info("/livez, /readyz and /metrics on %s", server.address)
    try:
        yield
    finally:
        server.stop()
