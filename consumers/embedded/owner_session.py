"""What another process may call of an embedded log through the process that has it open."""

from collections.abc import Iterator
from typing import Any

from consumers.embedded import frames
from consumers.embedded.committer import EmbeddedCommitter
from consumers.embedded.log import EmbeddedLog
from consumers.embedded.reader import EmbeddedReader
from consumers.positions import Rows, from_rows, to_rows
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec

Pages = list[tuple[bytes, bytes | None]]
Once = tuple[str, int] | None


class Session:
    """What one connection may call, and the reader or committer that it holds."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._reader: EmbeddedReader | None = None
        self._committer: EmbeddedCommitter | None = None
        self._pages: Iterator[tuple[bytes, bytes]] = iter(())
        self._records: list[NewRecord] = []
        self._state: dict[bytes, bytes | None] = {}

    def ping(self) -> None:
        """Says that the client is there."""

    def stage(self, records: list[NewRecord], state: Pages) -> None:
        """A piece of what the next call writes."""
        self._records += records
        self._state.update(state)

    def _staged(self, records: list[NewRecord], state: Pages) -> tuple[list[NewRecord], dict[bytes, bytes | None]]:
        self.stage(records, state)
        taken = self._records, self._state
        self._records, self._state = [], {}
        return taken

    def create(self, specs: list[TopicSpec]) -> list[str]:
        return self._log.create(specs)

    def topics(self) -> list[TopicSpec]:
        return list(self._log.topics().values())

    def starts(self, topic: str) -> dict[int, int]:
        return self._log.starts(topic)

    def ends(self, topic: str) -> dict[int, int]:
        return self._log.ends(topic)

    def topic_ids(self, topics: list[str]) -> dict[str, str]:
        return self._log.topic_ids(topics)

    def claim(self, application: str, topics: list[str]) -> None:
        self._log.claim(application, topics)

    def append(self, records: list[NewRecord], once: Once) -> None:
        self._log.append(self._staged(records, [])[0], once=once)

    def forget(self, client: str) -> None:
        self._log.forget(client)

    def open_reader(self, positions: Rows) -> None:
        self._reader = self._log.reader(from_rows(positions))

    def read(self, max_records: int, timeout_s: float) -> tuple[list[Record], list[tuple[str, int]]]:
        assert self._reader, "open_reader comes first"
        records = self._reader.read(max_records, min(timeout_s, 5.0))
        return records, [tuple(tp) for tp in self._reader.at_end()]  # type: ignore[misc]

    def reader_positions(self) -> Rows:
        assert self._reader, "open_reader comes first"
        return to_rows(self._reader.positions())

    def pause(self, partitions: list[tuple[str, int]]) -> None:
        assert self._reader, "open_reader comes first"
        self._reader.pause([TopicPartition(*tp) for tp in partitions])

    def open_committer(self, application: str, held: int) -> int:
        self._committer = self._log.committer_for(application, held)
        return self._committer.generation

    def positions(self) -> Rows:
        assert self._committer, "open_committer comes first"
        return to_rows(self._committer.positions())

    def commit(self, outputs: list[NewRecord], positions: Rows, state: Pages) -> None:
        assert self._committer, "open_committer comes first"
        records, delta = self._staged(outputs, state)
        self._committer.commit(records, from_rows(positions), delta)

    def load_state(self, prefix: bytes) -> None:
        assert self._committer, "open_committer comes first"
        self._pages = self._committer.load_state(prefix)

    def stored_positions(self, application: str) -> Rows:
        return to_rows(self._log.stored_state(application).positions())

    def seek_pages(self, application: str, prefix: bytes) -> None:
        self._pages = self._log.stored_state(application).pages(prefix)

    def next_pages(self) -> list[tuple[bytes, bytes]]:
        pages, size = [], 0
        for key, value in self._pages:
            pages.append((key, value))
            size += len(key) + len(value)
            if size >= frames.PIECE_BYTES:
                break
        return pages

    def write_state(self, application: str, delta: Pages) -> None:
        self._log.stored_state(application).write(self._staged([], delta)[1])

    def secret(self, held: bytes) -> bytes:
        assert self._committer, "open_committer comes first"
        return self._committer.secret(held)

    def stored_secret(self, application: str) -> bytes:
        return self._log.stored_state(application).secret()

    def take_secret(self, application: str, secret: bytes) -> None:
        self._log.stored_state(application).take_secret(secret)

    def clear_state(self, application: str) -> None:
        self._log.stored_state(application).clear()

    def discard_state(self) -> None:
        assert self._committer, "open_committer comes first"
        self._committer.discard_state()

    def purge_state(self) -> None:
        assert self._committer, "open_committer comes first"
        self._committer.purge_state()


METHODS: dict[str, tuple[Any, ...]] = {  # name → types of its arguments
    "ping": (),
    "stage": (list[NewRecord], Pages),
    "create": (list[TopicSpec],),
    "topics": (),
    "starts": (str,),
    "ends": (str,),
    "topic_ids": (list[str],),
    "claim": (str, list[str]),
    "append": (list[NewRecord], Once),
    "forget": (str,),
    "open_reader": (Rows,),
    "read": (int, float),
    "reader_positions": (),
    "pause": (list[tuple[str, int]],),
    "open_committer": (str, int),
    "positions": (),
    "commit": (list[NewRecord], Rows, Pages),
    "load_state": (bytes,),
    "stored_positions": (str,),
    "seek_pages": (str, bytes),
    "next_pages": (),
    "write_state": (str, Pages),
    "clear_state": (str,),
    "discard_state": (),
    "purge_state": (),
    "secret": (bytes,),
    "stored_secret": (str,),
    "take_secret": (str, bytes),
}
