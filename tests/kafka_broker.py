"""A real Apache Kafka 4.1 broker (KRaft, one node) on loopback, from Maven Central, for tests and benchmarks.

`python -m tests.kafka_broker` starts one, on the usual port where that is free, until it is interrupted.
"""

import base64
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from tests.waiting import end, ended, is_gone, until

HERE = Path(__file__).parent
JARS = HERE.parent / ".cache" / "kafka"
FETCH_TRIES, USUAL_PORT = 3, 9092
_started: list["Broker"] = []  # another process may end what this one has started


def missing() -> str | None:
    """What the broker lacks on this machine, None where it can run."""
    return missing_java("a Kafka broker")


def missing_java(what: str) -> str | None:
    """Why `what` cannot run here, or None."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"{what} needs {' and '.join(absent)} (Java 17, Maven)" if absent else None


def fetch_jars(pom: Path, folder: Path, one_of_them: str) -> None:
    """Copies what a pom depends on into a folder, unless a file that matches is there."""
    fetch(folder, one_of_them, "-f", str(pom), "dependency:copy-dependencies")


def fetch(folder: Path, one_of_them: str, *goal: str) -> None:
    """Lets Maven put files into a folder, unless one that matches is there, which comes last.

    A repository that does not answer is asked again. Raises RuntimeError with what Maven says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "fetching").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if list(folder.glob(one_of_them)):
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as room:
            fetched = Path(room, "fetched")
            command = ["mvn", "-q", "-B", *goal, f"-DoutputDirectory={fetched}"]
            for _ in range(FETCH_TRIES):
                # Maven leaves markers of what it has unpacked where it runs, and does not unpack it there again
                done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=room)
                if not done.returncode:
                    break
            else:
                raise RuntimeError(f"Maven did not fetch {one_of_them}: {done.stdout[-2000:]}{done.stderr[-1000:]}")
            for path in sorted(fetched.iterdir(), key=lambda path: path.match(one_of_them)):
                if (there := folder / path.name).is_dir():
                    shutil.rmtree(there)
                path.replace(there)


def wait_for_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Returns when the process accepts connections on loopback. Raises RuntimeError with the end of its log."""

    def listens() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"it did not come up: {log.read_text()[-2000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens, 60, lambda: log.read_text()[-2000:], every_s=0.25)
    except BaseException:
        end(process)
        raise


class Broker:
    """One broker with its log in a folder of its own."""

    def __init__(self, folder: Path, port: int = 0, **server: str) -> None:
        self._folder, self._process = folder, None
        fetch_jars(HERE / "kafka/pom.xml", JARS, "kafka_2.13-*.jar")
        some, controller = free_ports(2)
        self.port = port or some
        self.bootstrap = f"127.0.0.1:{self.port}"
        (folder / "server.properties").write_text(
            "".join(f"{k}={v}\n" for k, v in (_properties(folder, self.port, controller) | server).items())
        )
        cluster = base64.urlsafe_b64encode(b"k" + uuid4().bytes[1:]).rstrip(b"=").decode()
        self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(folder / "server.properties"))
        self.start()

    def _java(self, main: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["java", "-cp", f"{JARS}/*", main, *arguments], check=True, capture_output=True, text=True
        )

    def start(self) -> None:
        """Starts it on the log that it has; returns when it accepts connections."""
        output = (self._folder / "broker.log").open("ab")
        self._process = subprocess.Popen(
            ["java", "-Xmx512m", "-cp", f"{JARS}/*", "kafka.Kafka", str(self._folder / "server.properties")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        wait_for_port(self._process, self.port, self._folder / "broker.log")

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process
        return self._process.pid

    def stop(self, kill: bool = False) -> None:
        """Ends it, with `kill` as a crash would."""
        assert self._process
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            ended(self._process, 60)
        finally:
            end(self._process)


@contextmanager
def shared(folder: Path) -> Iterator[str]:
    """The address of one broker for all processes that ask with this folder; the last one that leaves ends it."""
    folder.mkdir(exist_ok=True)
    address = folder / "address"
    with (folder / "turn").open("w") as turn, (folder / "users").open("w") as users:  # a lock goes with its process
        with _locked(turn):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not address.exists():
                _started.append(Broker(folder))
                address.write_text(f"{_started[-1].bootstrap} {_started[-1].pid}")
        try:
            yield address.read_text().split()[0]
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            end_unused(folder)


def end_unused(folder: Path) -> None:
    """Ends the broker of a folder, where there is one that no process uses: whoever started it may have been killed."""
    address = folder / "address"
    if not address.exists():
        return
    with (folder / "turn").open("w") as turn, (folder / "users").open("w") as users, _locked(turn):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if address.exists():
            pid = int(address.read_text().split()[1])
            address.unlink()
            os.kill(pid, signal.SIGTERM)  # it may be another one's child
            until(lambda: is_gone(pid))


@contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _properties(folder: Path, port: int, controller: int) -> dict[str, str]:
    one = (
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
    )
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(folder / "log"),
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        "log.cleaner.backoff.ms": "1000",  # each time it looks at all that the tests have made
        "offsets.topic.num.partitions": "4",  # fifty are made and loaded before the first member has joined
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.consumer.min.session.timeout.ms": "6000",  # KIP-848: these are the broker's to say
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "1000",
        "group.consumer.heartbeat.interval.ms": "1000",
    } | dict.fromkeys(one, "1")


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def main() -> None:
    """Runs a broker until interrupted or terminated."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="freshet-kafka-") as folder:
        print(f"Starting a broker; the first time Maven fetches it into {JARS}.", flush=True)
        broker = Broker(Path(folder), USUAL_PORT if is_free(USUAL_PORT) else 0)
        print(f"It is there until Ctrl-C. Elsewhere: export FRESHET_BOOTSTRAP=localhost:{broker.port}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            broker.stop()


if __name__ == "__main__":
    main()
