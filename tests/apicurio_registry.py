"""A real schema registry on loopback, Apicurio 3.0 from Maven Central, for tests. It speaks Confluent's API."""

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.kafka_broker import fetch, free_ports, missing_java, wait_for_port
from tests.waiting import scaled, terminate, until

FOLDER = Path(__file__).parents[1] / ".cache" / "apicurio"
RUNNER = "apicurio-registry-app-*-runner.jar"
WHOLE = "io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all"


def missing() -> str | None:
    """What the registry lacks on this machine, None where it can run."""
    return missing_java("a schema registry")


class Registry:
    """One registry, whose schemas are in a folder: they are there again after it was stopped and started."""

    def __init__(self, folder: Path) -> None:
        fetch(FOLDER, RUNNER, "dependency:unpack", f"-Dartifact={WHOLE}")
        self._folder = folder
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self.start()

    def start(self) -> None:
        """Starts it on the schemas that it has; returns when it answers."""
        [jar] = FOLDER.glob(RUNNER)
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "apicurio.datasource.url": f"jdbc:h2:file:{self._folder}/schemas",
        }
        flags = [f"-D{name}={value}" for name, value in options.items()]
        log = self._folder / "registry.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", *flags, "-jar", str(jar)],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_for_port(self._process, self.port, log)
        until(self._answers, 60, lambda: log.read_text()[-2000:])

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=scaled(10)) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Ends it."""
        terminate(self._process)
