"""Fixtures that more than one file uses. What is missing is a failure in CI and a named skip elsewhere."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import hypothesis
import pytest

from consumers.open_log import OwnedLog
from streamer.engine.compilation import ensure_compiled
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests import apicurio_registry, kafka_broker, neo4j_server, waiting
from tests.lazily import imported_at_collection
from tests.topic_names import topics_under

hypothesis.settings.register_profile(  # kernels compile on first use, and the machines of CI are slow at times
    "freshet", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("freshet")

DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.hookimpl(tryfirst=True)  # before pytest-timeout looks
def pytest_configure(config: pytest.Config) -> None:
    """The limit of a test is that of a usual machine, times how much slower this one is.

    SIGTERM ends the tests as Ctrl-C does: fixtures end the processes that they started. Processes of tests share the cores,
    where threads of one model would wait for one another. A source is compiled once, not by every process, and what lives
    as shortly as a broker here is not worth optimising.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if config.getoption("timeout", None) is None:
        config.option.timeout = waiting.scaled(float(config.getini("timeout")))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected lives to the end: the collector of garbage never looks through it."""
    gc.disable()
    result = yield
    imported_at_collection.update(sys.modules)
    gc.freeze()
    atexit.register(gc.unfreeze)  # behind the last collections of pytest: libraries look whether all of theirs has gone
    gc.enable()
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that ask a broker wait most: they lie evenly among those that compute, which fill the cores meanwhile.

    All of them first would leave the cores idle, and then have every process compute at once. Those of faults, which
    are the longest, come before the others, and none begins among the last files.
    """
    on_kafka = {item.path for item in items if item.get_closest_marker("kafka")}
    files = list(dict.fromkeys(item.path for item in items))
    place = {path: float(n) for n, path in enumerate(path for path in files if path not in on_kafka)}
    step = 0.9 * len(place) / max(len(on_kafka), 1)
    waiting = sorted(on_kafka, key=lambda path: ("faults" not in path.parts, path))
    place |= {path: n * step - 0.5 for n, path in enumerate(waiting)}
    items.sort(key=lambda item: place[item.path])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Processes of tests that were killed leave no broker behind."""
    if "PYTEST_XDIST_WORKER" not in os.environ and hasattr(config, "_tmp_path_factory"):
        kafka_broker.end_unused(config._tmp_path_factory.getbasetemp() / "kafka")


def pytest_report_header() -> str:
    return f"limits: {waiting.slowness():.1f} times those of a usual machine"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Tests use kernels as commands do, and leave none in the cache that commands would use."""
    ensure_compiled(everything=True)


def missing(reason: str) -> None:
    """Skips with a reason; in CI it fails: there, everything is installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


Service = TypeVar("Service", kafka_broker.Broker, neo4j_server.Server, apicurio_registry.Registry)


@contextmanager
def running(service: Callable[[Path], Service], lacks: str | None, folder: Path) -> Iterator[Service]:
    """A service in a folder of its own; see `missing` where it `lacks` something."""
    if lacks:
        missing(lacks)
    started = service(folder)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka 4.1 broker that lives as long as the tests, of whose processes all share it."""
    if lacks := kafka_broker.missing():
        missing(lacks)
    base = tmp_path_factory.getbasetemp()
    with kafka_broker.shared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka") as bootstrap:
        yield bootstrap


@pytest.fixture(scope="module")
def neo4j_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Neo4j 5.26 that lives as long as the tests of a file."""
    with running(neo4j_server.Server, neo4j_server.missing(), tmp_path_factory.mktemp("neo4j")) as server:
        yield server.uri


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apicurio_registry.Registry]:
    """A real schema registry that lives as long as the tests of a file."""
    with running(apicurio_registry.Registry, apicurio_registry.missing(), tmp_path_factory.mktemp("registry")) as one:
        yield one


@pytest.fixture
def stream() -> object:
    """Where the real streams are: `stream("movietweetings")` is its file of interactions."""

    def path(name: str) -> Path:
        file = DATA / name / "interactions.parquet"
        if not file.is_file():
            pytest.skip(f"the real stream {name} is not on this machine")
        return file

    return path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Default settings with an embedded log of this test's own, whatever the environment says."""
    for name in [name for name in os.environ if name.startswith("FRESHET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Settings.load(log=str(tmp_path / "log"), state=str(tmp_path / "state"))


@pytest.fixture
def log(settings: Settings) -> Iterator[OwnedLog]:
    """An embedded log with the default topics, one partition each; nothing is compacted, however long a test takes."""
    assert settings.log
    opened = OwnedLog(settings.log, compaction_lag_ms=86_400_000)
    opened.create(topic_specs(settings, partitions=1))
    yield opened
    opened.close()


@pytest.fixture
def on_kafka(kafka_bootstrap: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings on a real broker with topics of this test's own, for commands too."""
    return own_topics(kafka_bootstrap, settings, monkeypatch)


def own_topics(bootstrap: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings on a broker under names of the test's own, in the environment too.

    Folders of tests have the same names in every process, which share the broker.
    """
    prefix = f"t{uuid4().hex[:8]}."
    own = topics_under(prefix) | {"application": prefix + "app", "bootstrap": bootstrap}
    for name, value in own.items():
        monkeypatch.setenv(f"FRESHET_{name.upper()}", value)
    return settings.model_copy(update={**own, "log": None})
