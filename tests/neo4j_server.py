"""A real Neo4j 5.26 on loopback, from Maven Central, for tests."""

import subprocess
from pathlib import Path

from tests.kafka_broker import fetch_jars, free_ports, missing_java, wait_for_port
from tests.waiting import terminate

HERE = Path(__file__).parent
JARS = HERE.parent / ".cache" / "neo4j"
OPEN = ("java.base/java.nio", "java.base/java.lang")  # to the database, which asks for it


def missing() -> str | None:
    """What the database lacks on this machine, None where it can run."""
    return missing_java("a Neo4j database")


class Server:
    """One database in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        fetch_jars(HERE / "neo4j/pom.xml", JARS, "neo4j-harness-*.jar")
        [self.port] = free_ports(1)
        self.uri = f"bolt://127.0.0.1:{self.port}"
        opens = [f"--add-opens={package}=ALL-UNNAMED" for package in OPEN]
        output = (folder / "neo4j.log").open("wb")
        self._process = subprocess.Popen(
            [
                "java",
                "-Xmx768m",
                *opens,
                "-cp",
                f"{JARS}/*",
                str(HERE / "neo4j/Database.java"),
                str(self.port),
                str(folder),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        wait_for_port(self._process, self.port, folder / "neo4j.log")

    def stop(self) -> None:
        """Ends it."""
        terminate(self._process)
