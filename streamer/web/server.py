"""uvicorn in a thread: it listens when `start` returns."""

import asyncio
import functools
import socket
import threading
import time

import uvicorn
from starlette.types import ASGIApp

from streamer.errors import PortTaken
from streamer.runtime.certificate import Certificate
from streamer.runtime.interpreter import hand_over_often
from streamer.runtime.supervisor import Threads
from streamer.web.limits import ACCEPTED_AT_ONCE, MAX_MESSAGE_BYTES, BoundedProtocol, BoundedSocket, said_once

BACKLOG = 1024  # connections that wait to be accepted


class WebServer:
    """Serves an application on host:port; port 0 takes a free one.

    Args:
        flag: what chooses another port.
        threads: those of the process, which ends when this one's fails.
        request_timeout_s: how long a client may take to send the headers of a request.
        sockets: whether the application takes WebSockets.
        certificate: by which it answers HTTPS; None: HTTP.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        flag: str = "--port",
        threads: Threads | None = None,
        request_timeout_s: float = 20.0,
        sockets: bool = False,
        certificate: Certificate | None = None,
    ) -> None:
        self._socket = listen(host, port, flag)
        name = f"[{host}]" if ":" in host else host
        scheme = "http" if certificate is None else "https"
        self.address = f"{scheme}://{name}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http=type("Protocol", (BoundedProtocol,), {"request_timeout_s": request_timeout_s}),
            ws=BoundedSocket if sockets else "none",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # a short message could unpack to any length
            lifespan="off",
            log_level="error",  # its warnings are about what clients send
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody asks who the client is
            backlog=ACCEPTED_AT_ONCE,
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = None if certificate is None else certificate.context
        self._server, self._request_timeout_s = uvicorn.Server(config), request_timeout_s
        self._threads = threads or Threads()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns when requests are answered."""
        hand_over_often()
        self._thread = self._threads.start("web", self._run)
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        self._threads.check()
        self._socket.listen(BACKLOG)  # asyncio takes one number for this and for how many it accepts at once

    def stop(self) -> None:
        """Ends open streams and stops listening."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(said_once)
        if self._server.config.ssl:  # uvicorn leaves a client a minute to begin; it is to be what headers may take
            create = functools.partial(loop.create_server, ssl_handshake_timeout=self._request_timeout_s)
            loop.create_server = create  # type: ignore[method-assign]
        await self._server.serve([self._socket])


def listen(host: str, port: int, flag: str) -> socket.socket:
    """A socket that listens on host:port. Raises PortTaken; flag: what chooses another port."""
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
    listener.listen(BACKLOG)
    return listener
