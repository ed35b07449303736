"""What an epoch takes, as one value that nobody changes, and what it gives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from consumers.dead_letter import DeadLetter
from consumers.records import NewRecord, Record, TopicPartition
from consumers.schemas import Item, User
from streamer.pipeline.admission import Admitted
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.learned_record import LearnedRecord
from streamer.pipeline.observed_block import ObservedBlock
from streamer.state.in_force import Recorded
from tgn.graph import I32, I64
from tgn.prequential import Outcome


@dataclass(frozen=True)
class ItemChange:
    """A record of the items topic: `item` None is a tombstone."""

    item_id: str
    item: Item | None


@dataclass(frozen=True)
class UserChange:
    """A record of the users topic that is no tombstone."""

    user: User


@dataclass(frozen=True)
class Erasure:
    """A tombstone of the users topic, appended at `at_ms` (epoch ms, the log's clock).

    Where compaction has taken the tombstone, the manifest has the `digest` that stands for its user, who need not be
    known any more; `by_name`: it is one of before format 10.
    """

    user_id: str
    at_ms: int
    digest: bytes | None = None
    by_name: bool = False


ChangedRules = Mapping[str, dict[str, Any] | None]
"""Surface → `version` and `rules` as JSON has them; None: it has none any more."""
NodeChange = ItemChange | UserChange | Erasure
Change = tuple[Record, NodeChange | DeadLetter]
"""A record of the items or users topic, and what it says."""


class CommittedBlock(NamedTuple):
    """A block of another worker, and where it lies."""

    partition: int
    at: int  # its offset
    block: ObservedBlock


class CommittedStep(NamedTuple):
    """What another worker learned, and where that lies."""

    at: int  # its offset
    record: LearnedRecord


@dataclass(frozen=True)
class EpochInput:
    """What an epoch takes: changes of items and users first, then interactions in order. `epoch_input` makes it."""

    arrivals: tuple[Arrival, ...]
    changes: tuple[NodeChange, ...]
    dead: tuple[DeadLetter, ...]  # of items and users
    ends: Mapping[TopicPartition, int]
    repair: bool  # the graph is to follow what was taken back or came late,
    repair_size: int  # a piece of about so many interactions; 0: all of it
    adopted: bool  # another worker took and listed these records: only the state follows
    released: tuple[int, ...]  # partitions that are another worker's now
    regained: tuple[int, ...]  # partitions that were, and came back
    embeddings: str | None  # the version to switch to first
    settings: Recorded | None  # those in force from here on, see streamer.state.in_force
    compacted: int  # records of items and users that it took and the log no longer has
    now_ms: int  # the stream's clock where it has gone on without interactions; 0: it has not
    aged: tuple[int, ...]  # users, by index, whose lists are to be made anew at `now_ms`
    rules: ChangedRules | None  # those in force from here on, of surfaces whose rules have changed
    shared: int  # partitions of the topic of blocks: of those that it takes records of, a block is written each
    observed: tuple[CommittedBlock, ...]  # what other workers admitted, in the order of each partition
    keeps: int  # what it learns is told others in steps of so many interactions at least; 0: it is not
    learned: tuple[CommittedStep, ...]  # what other workers learned, in the order of the topic


def epoch_input(
    arrivals: Iterable[Arrival] = (),
    changes: Iterable[Change] = (),
    *,
    ends: Mapping[TopicPartition, int] | None = None,
    erasures: Iterable[Erasure] = (),
    repair: bool = False,
    repair_size: int = 0,
    adopted: bool = False,
    released: Iterable[int] = (),
    regained: Iterable[int] = (),
    embeddings: str | None = None,
    settings: Recorded | None = None,
    compacted: int = 0,
    now_ms: int = 0,
    aged: Iterable[int] = (),
    rules: ChangedRules | None = None,
    shared: int = 0,
    observed: Iterable[CommittedBlock] = (),
    keeps: int = 0,
    learned: Iterable[CommittedStep] = (),
) -> EpochInput:
    """Makes the input of an epoch: live, at a takeover, in recovery, in a rebuild and for a sink.

    Args:
        arrivals: interactions in the order in which they are to be taken.
        changes: of items and users, in the order of each partition.
        ends: the next offset of each partition after the epoch; None: after its last record here.
        erasures: those whose tombstones the log no longer has; they come before the other changes.

    The others are the fields of `EpochInput`.
    """
    arrivals, changes = tuple(arrivals), tuple(changes)
    if ends is None:
        records = (*(arrival.record for arrival in arrivals), *(record for record, _ in changes))
        ends = {record.topic_partition: record.offset + 1 for record in records}
    return EpochInput(
        arrivals=arrivals,
        changes=(*erasures, *(change for _, change in changes if not isinstance(change, DeadLetter))),
        dead=tuple(change for _, change in changes if isinstance(change, DeadLetter)),
        ends=MappingProxyType(dict(ends)),
        repair=repair,
        repair_size=repair_size,
        adopted=adopted,
        released=tuple(released),
        regained=tuple(regained),
        embeddings=embeddings,
        settings=settings,
        compacted=compacted,
        now_ms=now_ms,
        aged=tuple(aged),
        rules=rules or None,
        shared=shared,
        observed=tuple(observed),
        keeps=keeps,
        learned=tuple(learned),
    )


@dataclass(frozen=True)
class EpochOutput:
    """What an epoch gives."""

    records: list[NewRecord]
    taken: list[Arrival]  # the interactions that counted, in order
    outcome: Outcome | None
    published: I64  # [P] of which interactions the lists are published
    listed: I32  # users, by index, whose lists were made
    admitted: Admitted
    observed: int  # interactions of other workers' partitions
    added: int  # steps of other workers
    dead: int
    repaired: bool
    erased: int  # users
    taken_back: int  # interactions, by retractions, deleted items and erased users
