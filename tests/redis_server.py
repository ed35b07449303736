"""A real Redis on loopback, from the system's package redis-server, for tests."""

import shutil
import subprocess
from pathlib import Path

from tests.kafka_broker import free_ports, wait_for_port
from tests.waiting import terminate


def missing() -> str | None:
    """What the server lacks on this machine, None where it can run."""
    return None if shutil.which("redis-server") else "a Redis needs redis-server, which is not installed"


class Server:
    """One server in a folder of its own, to which it writes each change: it has them again after a stop and a start."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        [self.port] = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._command += ["--requirepass", password] if password else []
        self.start()

    def start(self) -> None:
        """Starts it on what it has; returns when it answers."""
        log = self._folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        wait_for_port(self._process, self.port, log)

    def stop(self) -> None:
        """Ends it."""
        terminate(self._process)
