"""Workers of one application share the partitions, come, go and die, and every interaction is listed once."""

import json
import shutil
import signal
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consumers import crash_points
from consumers.records import NewRecord, TopicPartition
from streamer.pipeline.learned_record import decode_learned
from streamer.runtime.topics import read_records, whole
from tests.faults import victim
from tests.faults.forked import Forked
from tests.faults.scene import Scene
from tests.faults.victim import CRASHED
from tests.waiting import end, ended, freeze, is_frozen, until
from tests.worlds import checkerboard

pytestmark = pytest.mark.kafka
STEP = 600
EVENTS = checkerboard(events=20 * STEP, users=120, items=60)


class Group:
    """Seats on one application, each with a folder of its own, and how far the group has got."""

    def __init__(self, folder: Path, bootstrap: str, seats: int, protocol: str, **often: object) -> None:
        name = f"g{uuid4().hex[:8]}"
        kafka = {"transaction.timeout.ms": 10_000}
        kafka |= {"session.timeout.ms": 6_000} if protocol == "classic" else {}
        self.seats = []
        for seat in range(seats):
            place = folder / str(seat)
            place.mkdir()
            settings = {
                "max_epoch_events": 60,
                "checkpoint_interval_ms": 300,
                "group_protocol": protocol,
                "kafka": kafka,
                **often,
            }
            self.seats.append(Scene(place, name, bootstrap, **settings))
        self.scenes = list(self.seats)
        self.seats[0].create(partitions=4)
        self.running: dict[int, Forked] = {}
        self.protocol = protocol
        self.sent = 0
        self._log = self.seats[0].open()
        self._epochs = TopicPartition(self.seats[0].settings.epochs_topic, 0)
        self._reader = self._log.reader({self._epochs: 0})
        self._manifests: list[dict[str, Any]] = []

    def send(self) -> None:
        """The next STEP interactions."""
        assert self.sent < len(EVENTS), "the partitions were never shared" + self.logs()
        self.seats[0].send(self.seats[0].interactions(EVENTS[self.sent : self.sent + STEP], self.sent))
        self.sent += STEP

    def start(self, seat: int, *flags: str, frozen_at: str | None = None) -> None:
        """Runs the worker of a seat, which stops the third time that an effect has happened."""
        scene = self.seats[seat]
        cwd = scene.file.parent / "cwd"
        cwd.mkdir(exist_ok=True)
        (cwd / "freshet.toml").write_text(scene.file.read_text())
        self.running[seat] = Forked(victim.run, flags, frozen_at, cwd=cwd, log=cwd / "log")

    def signal(self, seat: int, number: int) -> int | None:
        """Sends a signal; after one that ends the process gives its exit code."""
        self.running[seat].send_signal(number)
        return None if number == signal.SIGCONT else self.end_of(seat)

    def freeze(self, seat: int) -> None:
        """Stops the worker of a seat where it is."""
        freeze(self.running[seat].pid)

    def is_frozen(self, seat: int) -> bool:
        """Whether the system has stopped the worker of a seat."""
        return is_frozen(self.running[seat].pid)

    def end_of(self, seat: int) -> int:
        """Waits until the worker of a seat has ended; gives its exit code."""
        code = ended(self.running[seat], said=self.logs)
        del self.running[seat]
        return code

    def manifests(self) -> list[dict[str, Any]]:
        """All that was committed."""
        while True:
            records = self._reader.read(1_000, 0.1)
            self._manifests += [json.loads(record.value or b"") for record in records]
            if not records and self._epochs in self._reader.at_end():
                return self._manifests

    def taken(self) -> int:
        """Interactions taken, each once."""
        return sum(m["events"] for m in self.manifests() if not m.get("adopted"))

    def shared(self, workers: int = 2, since: int = 0) -> bool:
        """Whether so many workers have listed something of their own, from the `since`th manifest on.

        Who has no partition yet commits too: what it observes.
        """
        taking = {m["worker"] for m in self.manifests()[since:] if m["events"] and not m.get("adopted")}
        return len(taking) >= workers

    def share(self, workers: int = 2) -> None:
        """Sends until so many workers hold partitions."""
        since = len(self.manifests())
        while not self.shared(workers, since):
            self.send()
            self.until(self.all_taken)

    def learn(self, workers: int = 2) -> None:
        """Sends until so many workers have added what others learned."""
        while len({m["worker"] for m in self.manifests() if m["learned"]}) < workers:
            self.send()
            self.until(self.all_taken)

    def log_of(self, seat: int) -> str:
        """What a worker said."""
        file = self.seats[seat].file.parent / "cwd" / "log"
        return file.read_text() if file.exists() else ""

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until it holds; where it does not, every worker says where it is, and ends."""
        until(condition, 60, lambda: f"{self.taken()} of {self.sent} taken\n{self.stacks()}{self.logs()}", every_s=0.2)

    def stacks(self) -> str:
        """The manifests, after each worker has written its stack to its log."""
        for process in self.running.values():
            for number in (signal.SIGABRT, signal.SIGCONT):
                process.send_signal(number)
            process.wait(30)
        told = ("worker", "epoch", "events", "adopted", "ends")
        return "".join(f"{ {name: manifest.get(name) for name in told} }\n" for manifest in self.manifests())

    def all_taken(self) -> bool:
        """Whether the group has taken everything that was sent."""
        return self.taken() >= self.sent

    def all_taken_or(self, process: Forked) -> Callable[[], bool]:
        """Whether it has, or the process has ended."""
        return lambda: process.poll() is not None or self.all_taken()

    def logs(self) -> str:
        """What all of them said last."""
        return "\n".join(self.log_of(seat)[-6_000:] for seat in range(len(self.seats)))

    def check(self, exactly: bool = True) -> None:
        """Ends every worker; then the log must hold each list once, and each state be that of its own epochs."""
        for seat in list(self.running):
            assert self.signal(seat, signal.SIGTERM) == 0, self.logs()
        digests = [scene.finish() for scene in self.seats]
        found = self.seats[0].audit()
        if exactly:
            self.check_lists()
            assert (found.interactions, found.lost, found.doubled) == (self.sent, 0, 0)
        assert (found.interactions >= self.sent, found.lost) == (True, 0)
        assert sorted(found.digests.values()) == sorted(digests)

    def check_lists(self) -> None:
        """No list is there twice, everybody has one, and of each user the newest is the last; some age meanwhile.

        Lists that age are made by who has their partition: who makes the lists of interactions just before or after.
        """
        newest, ids, made = dict[str, int](), list[str](), dict[int, list[tuple[str, bool]]]()
        took = self._who_took()
        with self.seats[0].open() as log:
            for record in read_records(log, whole(log, self.seats[0].settings.recommendations_topic)):
                value = json.loads(record.value or b"")
                ids.append(value["list_id"])
                in_partition = made.setdefault(record.partition, [])
                if value["list_id"].startswith("e-"):
                    assert value["user_id"] in newest
                    in_partition.append((value["list_id"].split("-")[1], True))
                    continue
                offset = int(value["list_id"].split("-")[1])
                in_partition.append((took(record.partition, offset), False))
                assert newest.get(value["user_id"], -1) < offset
                newest[value["user_id"]] = offset
        assert len(set(ids)) == len(ids)
        assert newest.keys() == {user for user, _, _ in EVENTS[: self.sent]}
        for in_partition in made.values():
            for n, (worker, is_aged) in enumerate(in_partition):
                before = next((one for one, aged in reversed(in_partition[:n]) if not aged), worker)
                after = next((one for one, aged in in_partition[n:] if not aged), worker)
                assert not is_aged or worker in (before, after), (worker, before, after)

    def _who_took(self) -> Callable[[int, int], str]:
        """Whose epoch an interaction was in, by partition and offset."""
        ends: dict[int, list[tuple[int, str]]] = {}
        topic = self.seats[0].settings.interactions_topic
        for manifest in self.manifests():
            if manifest["events"] and not manifest.get("adopted"):
                for partition, end in manifest["ends"].get(topic, {}).items():
                    ends.setdefault(int(partition), []).append((end, manifest["worker"]))
        for of_one in ends.values():
            of_one.sort()
        return lambda partition, offset: ends[partition][bisect_right(ends[partition], (offset, "~"))][1]

    def check_learning(self, workers: int = 2) -> None:
        """Each step is in the log once, and each worker has added those of the others once and without a gap."""
        topic = self.seats[0].settings.model_topic
        with self.seats[0].open() as log:
            steps = {r.offset: decode_learned(r.value or b"") for r in read_records(log, whole(log, topic))}
        assert len({step.place() for step in steps.values()}) == len(steps)
        added = dict[str, list[int]]()
        for manifest in self.manifests():
            added.setdefault(manifest["worker"], []).extend(manifest["learned"])
        assert len([worker for worker, offsets in added.items() if offsets]) == workers, added
        for worker, offsets in added.items():
            last = max(offsets, default=-1)
            assert offsets == [at for at, step in steps.items() if step.seat != worker and at <= last]

    def close(self) -> None:
        """Ends every process that is left."""
        for process in self.running.values():
            end(process)
        for scene in self.scenes:
            scene.close()
        self._reader.close()
        self._log.close()


GroupOf = Callable[..., Group]
slow = pytest.mark.slow
both = pytest.mark.parametrize("protocol", ["classic", pytest.param("consumer", marks=slow)])


@pytest.fixture
def group_of(tmp_path: Path, kafka_bootstrap: str) -> Iterator[GroupOf]:
    made: list[Group] = []

    def make(seats: int, protocol: str, **often: object) -> Group:
        made.append(Group(tmp_path, kafka_bootstrap, seats, protocol, **often))
        return made[-1]

    try:
        yield make
    finally:
        for group in made:
            group.close()


@both
def test_one_joins_and_one_is_killed(group_of: GroupOf, protocol: str) -> None:
    """The one that was killed has its seat again, and listens: it is the last one left that takes everything."""
    group = group_of(2, protocol)
    group.start(0)
    group.send()
    group.until(group.all_taken)
    group.start(1)
    group.share()
    group.send()
    group.signal(0, signal.SIGKILL)
    group.start(0)
    group.until(group.all_taken)
    group.share()
    assert group.signal(1, signal.SIGTERM) == 0
    group.send()
    group.until(group.all_taken)
    group.check()


@both
def test_one_that_comes_back_with_fewer_partitions_lists_for_their_users_alone(
    group_of: GroupOf, protocol: str
) -> None:
    """Its checkpoint has lists of users who are another's now; these age soon, and their owner alone makes them anew."""
    group = group_of(2, protocol, age_after_s=[1.0], age_distance=0.0)
    group.start(0)
    group.send()
    group.until(group.all_taken)
    group.start(1)
    group.share()
    group.signal(0, signal.SIGKILL)
    group.send()
    group.until(group.all_taken)  # the other one has everything
    group.start(0)
    group.share()
    group.signal(0, signal.SIGKILL)
    group.start(0)
    group.share()
    since = len(group.manifests())
    group.until(lambda: {m["worker"] for m in group.manifests()[since:] if m["aged"]})
    group.check()


@slow
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_one_that_was_frozen_wakes_when_its_partitions_are_gone(group_of: GroupOf, protocol: str) -> None:
    """It must not write what is no longer its own; it goes on as the member of the group that it is again."""
    group = group_of(2, protocol)
    for seat in (0, 1):
        group.start(seat)
    group.share()
    group.send()  # it is frozen with work in its hands
    group.freeze(1)
    group.send()
    group.until(group.all_taken)  # the other one has adopted its partitions
    assert "taking over" in group.log_of(0)
    group.signal(1, signal.SIGCONT)
    group.share()
    assert group.signal(0, signal.SIGTERM) == 0
    group.send()
    group.until(group.all_taken)
    group.check()


@slow
@both
def test_one_dies_in_its_commit_and_never_comes_back(group_of: GroupOf, protocol: str) -> None:
    """Its transaction stays open after its session has ended: the others wait for what becomes of it."""
    group = group_of(2, protocol)
    group.send()
    group.seats[0].crash("offsets", 3)
    group.start(1)
    group.send()
    group.until(group.all_taken)
    assert group.running[1].poll() is None
    group.check()


@slow
@both
def test_partitions_move_while_they_are_adopted(group_of: GroupOf, protocol: str) -> None:
    """One is frozen half-way through what it takes over, wakes without its partitions, and is killed at it again."""
    group = group_of(2, protocol, max_epoch_events=3, observe=False)
    group.start(0)
    for _ in range(4):
        group.send()
    group.until(group.all_taken)
    group.start(1)
    group.until(lambda: "taking over" in group.log_of(1))
    group.freeze(1)
    group.send()
    group.until(group.all_taken)  # by the other one, which has them back
    group.signal(1, signal.SIGCONT)
    group.until(lambda: "not taken over" in group.log_of(1))
    group.until(lambda: group.log_of(1).count("taking over") > 2)
    group.signal(1, signal.SIGKILL)
    group.start(1)
    group.share()
    group.check()


def test_one_dies_as_it_gives_up_partitions_and_comes_back(group_of: GroupOf) -> None:
    """The broker gives it what it had kept, without a rebalance: what it gave up must not be left to nobody."""
    group = group_of(2, "classic")
    group.send()
    dying = group.seats[0].start("revoked")
    group.until(group.all_taken)
    group.start(1)
    assert ended(dying, said=group.logs) == CRASHED
    group.start(0)
    group.share()
    group.check()


FROZEN = [
    ("classic", "exactly-once", "idle"),
    ("classic", "exactly-once", "busy"),
    ("classic", "exactly-once", "offsets"),
    ("classic", "at-least-once", "taken"),
]
FROZEN_TOO = [("classic", "exactly-once", effect) for effect in crash_points.KAFKA if effect != "offsets"]
FROZEN_TOO += [("consumer", "exactly-once", when) for when in ("idle", "busy", "offsets")]
FROZEN_TOO += [("classic", "at-least-once", "idle"), ("consumer", "at-least-once", "taken")]


@pytest.mark.parametrize(
    ("protocol", "delivery", "when"), FROZEN + [pytest.param(*case, marks=slow) for case in FROZEN_TOO]
)
def test_a_copied_seat_fences_the_first_one_which_stops_in_one_line(
    group_of: GroupOf, protocol: str, delivery: str, when: str
) -> None:
    """Frozen at any moment, its state folder copied and started elsewhere: it wakes, and ends.

    At least once what was with the client already, and not with the broker, is sent as it wakes: no transaction holds it.
    """
    group = group_of(2, protocol, delivery=delivery)
    group.start(0, frozen_at=when if when in crash_points.KAFKA else None)
    group.send()
    if when in crash_points.KAFKA:
        group.until(lambda: group.is_frozen(0))
    else:
        group.until(group.all_taken)
        if when == "busy":
            group.send()
        group.freeze(0)
    shutil.copytree(group.seats[0].file.parent / "state", group.seats[1].file.parent / "state")
    group.start(1)
    group.send()
    group.until(group.all_taken)
    group.signal(0, signal.SIGCONT)
    assert group.end_of(0) == 1
    said = [line for line in group.log_of(0).splitlines() if " INFO " not in line]
    assert len(said) == 1, said
    assert said[0].startswith("freshet: another process took this worker's seat: process ")
    assert "trying again" not in group.log_of(1)
    group.until(group.all_taken)
    assert group.signal(1, signal.SIGTERM) == 0
    group.seats = group.seats[1:]
    group.check(delivery == "exactly-once")


def test_an_adopted_record_from_the_far_future_moves_no_clock(group_of: GroupOf) -> None:
    """It was refused by the one who took it first, and is refused again."""
    group = group_of(2, "classic", observe=False)
    far = {"user_id": "u1", "item_id": "i1", "event_type": "view", "timestamp": 99_999_999_999_999, "event_id": "far"}
    group.seats[0].send([NewRecord(group.seats[0].settings.interactions_topic, b"u1", json.dumps(far).encode())])
    group.start(0)
    group.send()
    group.until(lambda: group.taken() == STEP + 1)
    assert group.signal(0, signal.SIGTERM) == 0
    group.start(1)
    group.until(lambda: any(m.get("adopted") for m in group.manifests()))
    refused = [m["refused"] for m in group.manifests() if m["refused"]]
    assert len(refused) == 2
    assert refused[0] == refused[1]


@slow
def test_at_least_once_loses_nothing_as_partitions_move(group_of: GroupOf) -> None:
    group = group_of(2, "classic", delivery="at-least-once")
    for seat in (0, 1):
        group.start(seat)
    group.share()
    group.send()
    group.signal(0, signal.SIGKILL)
    group.send()
    group.until(group.all_taken)
    group.start(0)
    group.share()
    group.check(exactly=False)


def test_one_without_a_partition_ends_at_the_end_too(group_of: GroupOf) -> None:
    """Five workers on four partitions: with --exit-at-end the fifth waits for a while, and ends with 0."""
    group = group_of(5, "classic")
    group.send()
    for seat in range(5):
        group.start(seat, "--exit-at-end")
    assert [group.end_of(seat) for seat in range(5)] == [0] * 5, group.logs()
    assert group.taken() == group.sent


def test_who_takes_a_partition_over_has_observed_it(group_of: GroupOf) -> None:
    """Nothing of it is taken anew, by a new worker or by one that is left: after a join, a leave and a kill."""
    group = group_of(2, "classic")
    group.start(0)
    group.send()
    group.until(group.all_taken)
    group.start(1)  # begins with blocks alone
    group.share()
    group.send()
    group.signal(0, signal.SIGKILL)
    group.send()
    group.until(group.all_taken)
    group.start(0)
    group.share()
    group.learn()
    assert group.signal(1, signal.SIGTERM) == 0
    group.send()
    group.until(group.all_taken)
    manifests = group.manifests()
    assert len({manifest["worker"] for manifest in manifests if manifest.get("observed")}) == 2
    assert not any(manifest.get("adopted") for manifest in manifests)
    group.check()
    group.check_learning()


UNDECIDED, DECIDED = "offsets", "committed"  # what a transaction becomes turns between these two


@pytest.mark.parametrize(
    "effect",
    [pytest.param(one, marks=() if one in (UNDECIDED, DECIDED) else slow) for one in crash_points.KAFKA],
)
def test_one_dies_at_any_effect_of_its_commit_while_it_observes(group_of: GroupOf, effect: str) -> None:
    """And while each adds what the other has learned."""
    group = group_of(2, "classic")
    group.start(0)
    group.send()
    group.until(group.all_taken)
    dying = group.seats[1].start(effect, 4)
    while dying.poll() is None:
        group.send()
        group.until(group.all_taken_or(dying))
    assert dying.returncode == CRASHED
    group.start(1)
    group.share()
    group.learn()
    group.check()
    group.check_learning()
