"""A real PostgreSQL on loopback, from the system's package postgresql, and what Debezium says of its changes, for tests."""

import base64
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from consumers.records import NewRecord
from tests.kafka_broker import fetch_jars, free_ports, missing_java, wait_for_port
from tests.waiting import terminate, until

HERE = Path(__file__).parent
JARS = HERE.parent / ".cache" / "debezium"
PROGRAMS = "usr/lib/postgresql/*/bin"  # where Debian has them, outside of PATH


def missing() -> str | None:
    """What the server and Debezium lack on this machine, None where they can run."""
    if not list(Path("/").glob(f"{PROGRAMS}/initdb")):
        return "a PostgreSQL needs the package postgresql, which is not installed"
    return missing_java("Debezium")


class Database:
    """One server with one database, `shop`, whose changes can be followed. It runs as `postgres`, where tests are root's."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres", dir="/tmp"))  # a folder that this user may enter
        self._bin = sorted(Path("/").glob(PROGRAMS))[-1]
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        [self.port] = free_ports(1)
        self._run("initdb", "-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        log = self._folder / "log"
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder), "-c", "wal_level=logical"]
        with log.open("wb") as output:
            command = [*self._as, str(self._bin / "postgres"), "-D", str(self._folder / "data"), *options]
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        wait_for_port(self._process, self.port, log)
        until(self._answers, 30, log.read_text)
        self.execute("CREATE DATABASE shop", "postgres")

    def execute(self, statements: str, database: str = "shop") -> None:
        """Runs statements of SQL."""
        self._run("psql", *self._address(database), "-v", "ON_ERROR_STOP=1", "-c", statements)

    def stop(self) -> None:
        """Ends it, and removes what it held."""
        terminate(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _address(self, database: str) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), *self._address("postgres")]
        return not subprocess.run(command, capture_output=True, check=False).returncode

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._folder)
        assert not done.returncode, done.stderr


class Connector:
    """A connector of Debezium's: the records that it would write to Kafka, in order.

    Args:
        config: its configuration, as Kafka Connect takes it.
    """

    def __init__(self, config: Mapping[str, str], folder: Path) -> None:
        fetch_jars(HERE / "debezium/pom.xml", JARS, "debezium-connector-postgres-*.jar")
        own = {"name": "test", "offset.storage.file.filename": str(folder / "offsets"), "offset.flush.interval.ms": "0"}
        lines = [f"{name}={value}".replace("\\", "\\\\") for name, value in {**config, **own}.items()]
        (folder / "properties").write_text("\n".join(lines))
        self._out = folder / "records"
        with self._out.open("wb") as out, (folder / "log").open("wb") as log:
            command = ["java", "-Xmx256m", "-cp", f"{JARS}/*", str(HERE / "debezium/Changes.java")]
            self._process = subprocess.Popen([*command, str(folder / "properties")], stdout=out, stderr=log)
        self._log = folder / "log"

    def records(self, count: int) -> list[NewRecord]:
        """All that it has written, once these are so many."""
        until(lambda: self._out.read_bytes().count(b"\n") >= count, 60, self._log.read_text)
        lines = self._out.read_text().splitlines()
        return [NewRecord(topic, _bytes(key), _bytes(value)) for topic, key, value in map(str.split, lines)]

    def stop(self) -> None:
        """Ends it."""
        terminate(self._process)


def _bytes(text: str) -> bytes | None:
    return None if text == "-" else base64.b64decode(text)
