"""What an epoch takes, and what it gives."""

from dataclasses import dataclass, field

from consumers.dead_letter import DeadLetter
from consumers.records import NewRecord, TopicPartition
from consumers.schemas import Item, User
from streamer.pipeline.admission import Admitted
from streamer.pipeline.arrivals import Arrival
from streamer.state.in_force import Recorded
from streamer.state.pending_repairs import PIECE
from tgn.prequential import Outcome


@dataclass
class ItemChange:
    """A record of the items topic: `item` None is a tombstone."""

    item_id: str
    item: Item | None


@dataclass
class UserChange:
    """A record of the users topic that is no tombstone."""

    user: User


@dataclass
class Erasure:
    """A tombstone of the users topic, appended at `at_ms` (epoch ms, the log's clock).

    Where compaction has taken the tombstone, the manifest has the `digest` that stands for its user, who need not be
    known any more; `by_name`: it is one of before format 10.
    """

    user_id: str
    at_ms: int
    digest: bytes | None = None
    by_name: bool = False


@dataclass
class EpochInput:
    """What an epoch takes: changes of items and users first, then interactions in order."""

    arrivals: list[Arrival] = field(default_factory=list)
    changes: list[ItemChange | UserChange | Erasure] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)  # of items and users
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    repair: bool = False  # the graph is to follow what was taken back or came late,
    repair_size: int = field(default_factory=lambda: PIECE)  # a piece of about so many interactions; 0: all of it
    adopted: bool = False  # another worker took and listed these records: only the state follows
    released: list[int] = field(default_factory=list)  # partitions that are another worker's now
    regained: list[int] = field(default_factory=list)  # partitions that were, and came back
    embeddings: str | None = None  # the version to switch to first
    settings: Recorded | None = None  # those in force from here on, see streamer.state.in_force
    compacted: int = 0  # records of items and users that it took and the log no longer has


@dataclass
class EpochOutput:
    """What an epoch gives."""

    records: list[NewRecord]
    taken: list[Arrival]  # the interactions that counted, in order
    outcome: Outcome | None
    admitted: Admitted
    dead: int = 0
    repaired: bool = False
    erased: int = 0  # users
    taken_back: int = 0  # interactions, by retractions, deleted items and erased users
