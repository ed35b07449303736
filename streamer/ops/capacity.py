"""What a stream takes: workers, partitions, memory, disk and network, out of costs that a benchmark measured.

N workers share the users; each scores for its own, and observes the interactions of all others. So processors add up,
less what observing takes, and memory does not: every worker holds all users and items. An epoch costs much whatever is
in it, and each of one worker is observed by all others: many workers with few interactions each are dear.
"""

import math
from typing import NamedTuple

from streamer.errors import PlanRefused

SECONDS_A_DAY = 86_400
MEASURED_WORKERS = 4  # more have not been measured together
BUSY = 0.6  # share of a worker's thread that is planned for: the rest catches up, and takes over from one that died
MOST_PARTITIONS, LEAST_PARTITIONS = 256, 4  # beyond, the positions that every list names outweigh its items
NEXT = (
    "the next design, which is not built, shares the state itself: items and users by partitions of their own behind "
    "the same topics, so that no worker holds, or observes, all of them"
)


class Costs(NamedTuple):
    """What one of each thing costs, by CAPACITY.md, LATENCY.md, ASKED_RATE.md and RESULTS.md of tests/benchmarks.

    Times are those of the worker's thread, Kafka's client's own threads aside.
    """

    idle_us: float = 28_000.0  # a second in which nothing comes: looks, and lists that age
    epoch_us: float = 1_900.0  # an epoch, whatever is in it: gathered, committed, in the manifest
    wait_us: float = 8_000.0  # between two epochs: records are gathered, the broker answers
    scored_us: float = 205.0  # an own interaction: scored, learned from, observed, its list made, written, checkpointed
    told_us: float = 22.0  # what is told of it, where others are there: its share of a block and of a step
    observed_us: float = 34.0  # another worker's interaction, with its share of a step, checkpointed
    block_us: float = 185.0  # another worker's epoch, which is observed
    asked_us: float = 570.0  # a list that is asked for, on both threads of the worker: .98 ms beside two interactions
    challenger_us: float = 92.0  # what a challenger adds to an own interaction: .47 times, CHALLENGERS.md
    challenger_memory: float = 1.0  # the model of a challenger, in times of the live one
    front_us: float = 350.0  # the same on the front, which `freshet serve` is
    user_bytes: float = 1_918.0
    item_bytes: float = 4_037.0
    pair_bytes: float = 32.0  # of memory, for each pair of a user and an item that met
    process_bytes: float = 450e6
    overhead: float = 1.1  # memory that the process takes over its arrays
    ledger_bytes: float = 40.0  # of disk, an interaction
    delta_bytes: float = 14_000.0  # what checkpoints write, twice, an interaction scored or observed, at most
    interaction_bytes: float = 150.0
    block_bytes: float = 39.0  # on `freshet.observed`, an interaction
    step_bytes: float = 1_200.0  # on `freshet.model`, an interaction
    list_bytes: float = 2_617.0  # of 20 items
    epoch_bytes: float = 10.0  # on `freshet.epochs`, an interaction

    def beside(self, challengers: int) -> "Costs":
        """The same where each worker has so many challengers, which take in all that it does."""
        models, arrays = 1 + challengers, 1 + challengers * self.challenger_memory
        return self._replace(
            scored_us=self.scored_us + challengers * self.challenger_us, observed_us=self.observed_us * models,
            user_bytes=self.user_bytes * arrays, item_bytes=self.item_bytes * arrays,
            pair_bytes=self.pair_bytes * arrays, delta_bytes=self.delta_bytes * models,
        )  # fmt: skip


class PlannedStream(NamedTuple):
    """What is to be served. Rates are those of the busiest hour."""

    users: int
    items: int
    events_per_s: float
    requests_per_s: float = 0.0
    retention_days: float = 30.0  # how long the topics keep interactions, lists, blocks and steps
    items_per_user: float = 100.0  # different ones, in all
    replication: int = 3
    challengers: int = 0  # models of experiments, beside the live one


class Machine(NamedTuple):
    """What each worker has."""

    memory_gib: float = 64.0
    network_gbit: float = 10.0


class StreamPlan(NamedTuple):
    """What the stream takes. Bytes are before compression."""

    workers: int
    fronts: int
    partitions: int
    busy: float  # share of each worker's thread
    capacity: float  # of all workers, in times of one that is alone
    most_capacity: float  # which no number of workers passes
    most_events_per_s: float  # which no number of workers passes
    memory_gib: float  # of each worker
    disk_gib: float  # of each worker: its checkpoint
    disk_mb_per_s: float  # of each worker: what its checkpoints write, at most
    log_gib: float  # on all brokers, with every copy
    worker_in_mbit: float
    worker_out_mbit: float
    brokers_out_mbit: float  # to all workers
    measured: bool  # whether so many workers were measured together


def plan(stream: PlannedStream, machine: Machine = Machine(), costs: Costs = Costs()) -> StreamPlan:  # noqa: B008
    """Plans for a stream. Raises PlanRefused where no number of workers serves it, with the limit that it meets."""
    costs = costs.beside(stream.challengers)
    memory = _memory_bytes(stream, costs)
    room = machine.memory_gib * 2**30
    if memory > room:
        raise PlanRefused(
            f"every worker holds all {stream.users:,} users and {stream.items:,} items, which takes "
            f"{memory / 2**30:,.1f} GiB, and it has {machine.memory_gib:,.0f}: more workers do not help; {NEXT}"
        )
    workers = _workers(stream, costs)
    most_events = max(most_rate(costs, n) for n in range(1, MOST_PARTITIONS // 2 + 1))
    if workers is None:
        observed = stream.events_per_s * costs.observed_us / 1e6
        raise PlanRefused(
            f"to observe {stream.events_per_s:,.0f} interactions per second takes a worker {observed:.0%} of its "
            f"thread, of which {BUSY:.0%} are planned for, beside its own, and each epoch of the others takes more: "
            f"{most_events:,.0f} per second is the most, with however many workers; {NEXT}"
        )
    partitions = max(LEAST_PARTITIONS, 2 ** math.ceil(math.log2(2 * workers)))
    found = _at(stream, costs, workers, partitions, memory, most_events)
    if max(found.worker_in_mbit, found.worker_out_mbit) > machine.network_gbit * 1_000:
        raise PlanRefused(
            f"each worker reads {found.worker_in_mbit:,.0f} Mbit/s, and it has {machine.network_gbit:g} Gbit/s; {NEXT}"
        )
    return found


def _memory_bytes(stream: PlannedStream, costs: Costs) -> float:
    pairs = stream.users * min(stream.items_per_user, stream.items)
    arrays = stream.users * costs.user_bytes + stream.items * costs.item_bytes + pairs * costs.pair_bytes
    return costs.process_bytes + costs.overhead * arrays


def busy_share(stream: PlannedStream, costs: Costs, workers: int, epochs: float | None = None) -> float:
    """The share of its thread that each of so many workers is busy.

    epochs: that each makes a second; None: as many as it can, none empty. There is a wait after each, so the busier a
    worker is the fewer it makes.
    """
    own, epoch_s, wait_s = stream.events_per_s / workers, _epoch_us(costs, workers) / 1e6, costs.wait_us / 1e6
    work = costs.idle_us + own * _own_us(costs, workers) + stream.requests_per_s / workers * costs.asked_us
    busy = work / 1e6
    if epochs is not None:
        return busy + epochs * epoch_s
    back_to_back = (busy + epoch_s / wait_s) / (1 + epoch_s / wait_s)  # of busy + (1 − this) / wait_s · epoch_s
    return max(busy, min(busy + own * epoch_s, back_to_back))


def most_rate(costs: Costs, workers: int) -> float:
    """Interactions per second with which so many workers are as busy as is planned for, where no list is asked for."""
    epoch, own, room = _epoch_us(costs, workers), _own_us(costs, workers), BUSY * 1e6 - costs.idle_us
    epochs = (1 - BUSY) * 1e6 / costs.wait_us
    many = (room - epochs * epoch) / own
    return workers * (many if many > epochs else room / (epoch + own))


def _epoch_us(costs: Costs, workers: int) -> float:
    """What a worker's epoch takes of its thread, and with it one of each of the others."""
    return costs.epoch_us + (workers - 1) * costs.block_us


def _own_us(costs: Costs, workers: int) -> float:
    """What a worker's interaction takes of its thread, and with it one of each of the others."""
    told = costs.told_us if workers > 1 else 0.0
    return costs.scored_us + told + (workers - 1) * costs.observed_us


def capacity(costs: Costs, workers: int) -> float:
    """How many interactions so many workers take in the time in which one that is alone takes one."""
    return most_rate(costs, workers) / most_rate(costs, 1)


def _workers(stream: PlannedStream, costs: Costs) -> int | None:
    """The fewest whose threads are busy for no more than BUSY; None: no number of them."""
    enough = (n for n in range(1, MOST_PARTITIONS // 2 + 1) if busy_share(stream, costs, n) <= BUSY)
    return next(enough, None)


def _at(
    stream: PlannedStream, costs: Costs, workers: int, partitions: int, memory: float, most_events: float
) -> StreamPlan:
    rate, days = stream.events_per_s, stream.retention_days * SECONDS_A_DAY
    told = costs.block_bytes + costs.step_bytes if workers > 1 else 0.0
    written = costs.list_bytes * 2 + costs.epoch_bytes + told  # a list goes to `recommendations` and `freshet.lists`
    kept = (costs.interaction_bytes + costs.list_bytes + costs.epoch_bytes + told) * rate
    asked = costs.list_bytes * stream.requests_per_s  # these go to `freshet.lists` too
    log = (kept + asked) * days + stream.users * costs.list_bytes
    own, others = rate / workers, rate * (workers - 1) / workers
    came_in = own * costs.interaction_bytes + others * told
    return StreamPlan(
        workers=workers,
        fronts=math.ceil(stream.requests_per_s * costs.front_us / 1e6 / BUSY),
        partitions=partitions,
        busy=busy_share(stream, costs, workers),
        capacity=capacity(costs, workers),
        most_capacity=most_events / most_rate(costs, 1),
        most_events_per_s=most_events,
        memory_gib=memory / 2**30,
        disk_gib=(memory - costs.process_bytes + costs.ledger_bytes * rate * days) / 2**30,
        disk_mb_per_s=rate * costs.delta_bytes / 1e6,
        log_gib=log * stream.replication / 2**30,
        worker_in_mbit=came_in * 8 / 1e6,
        worker_out_mbit=(own * written + asked / workers) * 8 / 1e6,
        brokers_out_mbit=came_in * workers * 8 / 1e6,
        measured=workers <= MEASURED_WORKERS,
    )
