"""The `Log` contract. `consumers.embedded.log` and `consumers.kafka.log` keep it; tests/contracts holds them to it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, Self

from consumers.records import NewRecord, Record, TopicPartition, TopicSpec

Positions = Mapping[TopicPartition, int]
"""Position: the next offset to read of each partition (one past the last one taken)."""

APPEND_TIMEOUT_S = 60.0

StateDelta = Mapping[bytes, bytes | None]
"""Keys of a checkpoint that changed; None deletes the key."""


class Closable(Protocol):
    """What holds something open: `with log.reader(positions) as reader:` closes it at the end, whatever happens."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader(Closable, Protocol):
    """Reads an assignment of partitions, each from its position on, committed records only."""

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records; returns at once with what is there, else waits up to `timeout_s` for the first.

        Within a partition records come in offset order; between partitions in any order.
        Raises PositionGone when a position is outside the log.
        """

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Reads nothing from these partitions, and again from every other, until the next call."""

    def at_end(self) -> frozenset[TopicPartition]:
        """The partitions whose every record, as far as the log showed when last asked, has been read."""

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read of each partition; past what compaction and transactions left of gaps."""


class Member(Reader, Protocol):
    """A reader of those partitions of one topic that the group gave to this process.

    A partition that it gained is read from `begin` on; one that it lost is read no more from the moment it is lost.
    Partitions move while `read` runs: whoever holds some and reads nothing for minutes loses them.
    """

    def join(self) -> None:
        """Asks the group for partitions; before, none come. Does nothing the second time."""

    def changes(self) -> tuple[dict[TopicPartition, int], frozenset[TopicPartition]]:
        """Partitions gained since the last call, with the group's committed position (−1: none), and those lost.

        One that was lost and came back is in both: it was lost first. One whose position is not known yet comes later.
        """

    def expected(self) -> frozenset[TopicPartition]:
        """Partitions gained that `changes` has not told yet: where the group is in them is not known."""

    def has_assignment(self) -> bool:
        """Whether the group has said which partitions are this process's; there may be none."""

    def begin(self, partition: TopicPartition, position: int) -> None:
        """Reads a gained partition from `position` on; does nothing where it was lost meanwhile."""


class Committer(Closable, Protocol):
    """The atomic step of one application. Opening one fences whoever held the same seat before."""

    seat: str
    """Names this worker among those of the application; empty where there can be only one."""

    waits: bool
    """Whether a commit waits for a disk or another process; one that does not takes some .4 ms of its thread."""

    def positions(self) -> dict[TopicPartition, int]:
        """What was committed last: where a restart goes on. Empty before the first commit."""

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """Makes `outputs`, `positions` and `state` durable. Raises Fenced when another process took the seat, and
        RecordRefused where a topic does not take one of the outputs.

        `positions`: of what the epoch took; nothing where it took nothing of its own.

        Embedded: all three in one step. Kafka: (1) one transaction of outputs and positions, (2) then, where `state` is
        given, that in one step: state may lag the log, never lead it.
        """

    def saving(self, state: StateDelta) -> Iterator[None]:
        """Makes `state`, that of what is committed, durable as a whole, a piece at each step of the iterator.

        It holds before the iterator is at its end. One that is not taken to its end leaves the state of before, or all
        of the new one.
        """

    def load_state(self, prefix: bytes = b"") -> Iterable[tuple[bytes, bytes]]:
        """The checkpoint: every key written by `commit(state=…)` that begins with `prefix`, in key order."""

    def discard_state(self) -> None:
        """Begins an empty checkpoint in the place of a damaged one."""

    def purge_state(self) -> None:
        """Takes what was deleted or written over in the checkpoint off the disk now, not at some later compaction."""

    def secret(self, held: bytes = b"") -> bytes:
        """32 random bytes of this seat, which the loss of its checkpoint leaves; `held` takes their place if given."""


class StoredState(Protocol):
    """The checkpoint of one application as it lies there. Reading it takes no seat: a worker goes on undisturbed."""

    def positions(self) -> dict[TopicPartition, int]:
        """What the application committed last."""

    def pages(self, prefix: bytes = b"") -> Iterable[tuple[bytes, bytes]]:
        """Keys that begin with `prefix`, in key order, as they were at one moment. Raises CheckpointDamaged."""

    def write(self, delta: StateDelta) -> None:
        """Changes keys; no worker may be running. Raises LogBusy where one is."""

    def seat(self) -> str:
        """Whose state it is, see `Committer.seat`; empty where no worker was there yet, or there can be only one."""

    def take_seat(self, seat: str) -> None:
        """Makes the next worker that of `seat`, whose state is written here; no worker may be running."""

    def secret(self) -> bytes:
        """See `Committer.secret`; empty where there is none yet."""

    def take_secret(self, secret: bytes) -> None:
        """Makes it that of the seat, whose state is written here; no worker may be running."""

    def clear(self) -> None:
        """Removes every key, readable or not; no worker may be running. The positions and the secret stay."""


class Log(Closable, Protocol):
    """An event log of topics, partitions, keys, headers, offsets, compaction and tombstones."""

    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """Creates what is missing and returns the names created. Idempotent.

        Raises TopicConflict where a topic exists with another number of partitions or cleanup policy.
        """

    def topic_names(self) -> set[str]:
        """Every topic that exists, without the broker's internal ones."""

    def topics(self, names: Collection[str] | None = None) -> dict[str, TopicSpec]:
        """Those topics that exist, by name; names: only of these; None: of all, which others may have thousands of."""

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """What tells a topic from one that was deleted and made anew; without topics of which nobody knows."""

    def claim(self, application: str, topics: Collection[str]) -> None:
        """Makes an application the one that writes to these topics. Raises TopicConflict where another one does."""

    def starts(self, topic: str) -> dict[int, int]:
        """The first offset still held, by partition. Raises UnknownTopic."""

    def ends(self, topic: str) -> dict[int, int]:
        """The offset that the next record will get, by partition. Raises UnknownTopic."""

    def append(self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S) -> None:
        """Appends outside any transaction; durable when it returns.

        Raises UnknownTopic, RecordRefused where the topic does not take one of the records, and LogUnavailable, after
        `timeout_s` too: what waits to be sent is then never sent, and what was sent and not acknowledged may be in the
        log.
        """

    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """The largest record that each topic takes, in bytes as `consumers.records.size_of` counts them."""

    def reader(self, positions: Positions) -> Reader:
        """A reader of these partitions, each from this offset on."""

    def subscribe(self, committer: Committer, positions: Positions) -> Member:
        """A member of the committer's group, which is to `join` it.

        It reads the one topic of `positions`, where each partition would begin.
        """

    def committer(self, application: str) -> Committer:
        """The seat of `application`, with the positions and the state that it committed."""

    def stored_state(self, application: str) -> StoredState:
        """What `application` committed, without its seat."""
