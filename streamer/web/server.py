"""uvicorn in a thread: it listens when `start` returns."""

import socket
import threading
import time

import uvicorn
from starlette.applications import Starlette

from streamer.errors import PortTaken
from streamer.supervisor import Threads


class WebServer:
    """Serves an application on host:port; port 0 takes a free one. `flag`: what chooses another port.

    `threads`: those of the process, which ends when this one's fails.
    """

    def __init__(
        self, app: Starlette, host: str, port: int, flag: str = "--port", threads: Threads | None = None
    ) -> None:
        self._socket = _listen(host, port, flag)
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._threads = threads or Threads()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns when requests are answered."""
        self._thread = self._threads.start("web", lambda: self._server.run([self._socket]))
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        self._threads.check()

    def stop(self) -> None:
        """Ends open streams and stops listening."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(5)
        self._socket.close()


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by it
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another with {flag}"
        ) from error
    listener.listen(128)
    return listener
