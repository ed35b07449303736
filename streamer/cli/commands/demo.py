"""`freshet demo`: MovieLens-100k as a live stream on the embedded log, with a page to watch."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.counted import counted
from consumers.log import Log
from consumers.records import NewRecord
from consumers.schemas import Item, User
from streamer.cli.demo_data import movielens_100k
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import rate
from streamer.cli.producing import Chunk, Pace, interaction_chunks
from streamer.cli.stream_flags import Stream, add_reading_flags, catalogue_of, ends_here, stream_of_files
from streamer.runtime.progress import progress
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import Threads
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.worker.worker import Worker

EXAMPLE = "freshet demo"
WATCHABLE_RATE = 400.0  # events a second, for somebody who looks at the page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", type=Path, action="append", metavar="FILE",
        help="file of interactions of your own, instead of MovieLens-100k; may be given several times",
    )  # fmt: skip
    parser.add_argument("--items", type=Path, help="file of their titles and attributes")
    parser.add_argument("--users", type=Path, help="file of the attributes of users")
    parser.add_argument(
        "--rate",
        type=rate,
        metavar="N",
        help=f"rate, events a second (default: {WATCHABLE_RATE:.0f} in a terminal, else as fast as it goes)",
    )
    parser.add_argument(
        "--exit", action="store_true", help="end by itself with a summary, as it does without a terminal"
    )
    add_reading_flags(parser)
    add_json_flag(parser, "one JSON object at the end")
    add_setting_flags(parser, "k", "exclude_seen", "seed", "field_map", "host", "port")


def run(arguments: argparse.Namespace) -> int:
    ends_by_itself = arguments.exit or not sys.stdout.isatty()
    if arguments.exclude_seen is None:
        arguments.exclude_seen = arguments.file is None  # nobody rates a film twice
    if ends_by_itself and arguments.port is None:
        arguments.port = 0
    if not arguments.file:
        fetched = movielens_100k()
        arguments.file, arguments.items, arguments.users = [fetched.interactions], fetched.items, fetched.users
    rate = arguments.rate or (None if ends_by_itself else WATCHABLE_RATE)
    stream = stream_of_files(arguments, settings_of(arguments), arguments.file)
    catalogue = catalogue_of(arguments, stream.settings)
    if ends_here(arguments, stream):
        return 0
    with tempfile.TemporaryDirectory(prefix="freshet-demo-") as folder:
        # the records that the demo sends have our names: what the map names was read already
        update: dict[str, Any] = {"log": Path(folder), "state": None, "bootstrap": None, "field_map": {}}
        settings = stream.settings.model_copy(update=update)
        Demo(settings, stream, catalogue, rate, arguments.json).run(ends_by_itself)
    return 0


class Demo:
    """Producer, worker and page around one embedded log."""

    def __init__(
        self,
        settings: Settings,
        stream: Stream,
        catalogue: tuple[list[Item], list[User]],
        rate: float | None,
        as_json: bool = False,
    ) -> None:
        self._settings, self._rate, self._as_json = settings, rate, as_json
        self._stream, self._table = stream, stream.table
        self._items, self._users = catalogue
        self._stop = StopRequest()
        self._threads = Threads(self._stop.set)

    def run(self, ends_by_itself: bool) -> None:
        """Streams the file; then ends with a summary, or goes on serving until Ctrl-C."""
        with open_log_of(self._settings) as log:
            self._run(log, ends_by_itself)
        self._threads.check()

    def _run(self, log: Log, ends_by_itself: bool) -> None:
        from streamer.asking.question_queue import QuestionQueue
        from streamer.engine.compilation import ensure_compiled
        from streamer.web.api import Gateway
        from streamer.web.materialized_view import View
        from streamer.web.server import WebServer
        from streamer.web.workers.askers import AskerToCome, LocalAsker
        from streamer.worker.worker import Worker

        log.create(topic_specs(self._settings, partitions=1))
        view = View(log, self._settings, self._threads)
        # the stream's own clock: an interaction posted now belongs to the moment that the replay has reached
        queue = QuestionQueue()
        asker = AskerToCome(LocalAsker(queue), "answers come once their kernels are compiled: ask again in a minute")
        gateway = Gateway(log, self._settings, view, clock_ms=lambda: view.feed.stream_ms, asker=asker)
        server = WebServer(gateway.app(), self._settings.host, self._settings.port, threads=self._threads, sockets=True)
        self._send_catalogue(log)
        view.start()
        server.start()
        self._say(f"the page: {server.address}")

        def answer_questions() -> None:
            """A question that came before would hold up the lists."""
            asker.is_open = True

        if ends_by_itself:  # hardly anybody looks at the page: nothing is compiled for it
            answer_questions()
        else:
            ensure_compiled(then=answer_questions)
        worker = Worker.open(log, self._settings, stop=lambda: bool(self._stop), queue=queue)
        working = self._threads.start("worker", worker.run)
        started = time.monotonic()
        try:
            self._produce(log)
            self._drain(worker)
            summary = self._summary(worker, time.monotonic() - started) | {"page": server.address}
            print(json.dumps(summary) if self._as_json else _text(summary), flush=True)
            if not ends_by_itself and not self._stop:
                self._say(f"still serving on {server.address}; Ctrl-C ends it")
                while not self._stop.wait(0.5):
                    pass
        finally:
            self._stop.set()
            working.join()
            view.stop()
            server.stop()
            worker.close()

    def _send_catalogue(self, log: Log) -> None:
        settings, encode = self._settings, msgspec.json.encode
        log.append([NewRecord(settings.items_topic, item.item_id.encode(), encode(item)) for item in self._items])
        log.append([NewRecord(settings.users_topic, user.user_id.encode(), encode(user)) for user in self._users])

    def _produce(self, log: Log) -> None:
        pace = Pace(self._rate, None)
        with progress("events", len(self._table)) as advance:
            sent = 0
            topic, refused = self._settings.interactions_topic, self._stream.records
            for part in _parts(interaction_chunks(self._table, topic, records=refused), pace.chunk):
                pace.wait(sent, None)
                if self._stop:
                    return
                log.append(part)
                sent += len(part)
                advance(len(part))

    def _drain(self, worker: "Worker") -> None:
        while worker.state.records < len(self._table) and not self._stop:
            time.sleep(0.05)

    def _say(self, line: str) -> None:
        if not self._as_json:
            print(line, flush=True)

    def _summary(self, worker: "Worker", seconds: float) -> dict[str, Any]:
        state, titles = worker.state, {item.item_id: item.title for item in self._items}
        figures = state.quality.figures(state.settings.k)
        users, items, published = state.engine.model.users.ids, state.engine.model.items.ids, state.listed.lists()
        return {
            "events": state.records,
            "seconds": round(seconds, 3),
            "quality": {name: round(ours, 5) for name, (ours, _) in figures.items()},
            "popularity": {name: round(theirs, 5) for name, (_, theirs) in figures.items()},
            "lists": {
                users[user]: [titles.get(items[item]) or items[item] for item in published.get(user, ())[:5]]
                for user in range(len(users))[-3:]
            },
        }


def _text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    events, seconds, popularity = summary["events"], summary["seconds"], summary["popularity"]
    lines = [f"{counted(events, 'event')} in {seconds:.1f} s: {events / max(seconds, 0.001):,.0f} events per second"]
    for name, ours in summary["quality"].items():
        if "@" in name:
            lines.append(f"{name.upper()}: {ours:.4f} ours, {popularity[name]:.4f} decayed popularity")
    lines += [f"user {user} would be shown: {'; '.join(listed)}" for user, listed in summary["lists"].items()]
    return "\n".join(lines)


def _parts(chunks: Iterator[Chunk], size: int) -> Iterator[list[NewRecord]]:
    for records, _ in chunks:
        for first in range(0, len(records), size):
            yield records[first : first + size]
