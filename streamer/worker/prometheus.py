"""What `freshet run` counts and measures. The worker calls it in few places; Prometheus reads it when it likes.

No label holds an id of a user, an item or a record.
"""

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal, get_args

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from consumers.counted import counted
from consumers.dead_letter import Reason
from consumers.errors import WireError
from consumers.log import Log, StateDelta
from consumers.records import TopicPartition
from consumers.schemas import DRIFT_KEY
from streamer.pipeline.epoch import EpochInput, EpochOutput
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.topics import DEFAULT_LOG, state_folder
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.ageing import Ageing

Stage = Literal["starting", "recovering", "ready", "waiting"]
"""starting: kernels and checkpoint load; recovering: committed epochs are taken again; waiting: the log went away."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COUNTERS = {
    "epochs": "Epochs committed.",
    "interactions": "Interactions taken.",
    "observed_interactions": "Interactions of other workers' partitions that were observed.",
    "added_steps": "Steps that other workers learned and that were added.",
    "duplicates": "Interactions whose event_id had been taken before.",
    "void": "Interactions of erased users, or taken back before they came.",
    "taken_back": "Interactions taken back by retractions, deleted items and erased users.",
    "erased_users": "Users erased.",
    "repairs": "Epochs in which the graph followed what was taken back or came late.",
    "lists": "Lists published or withdrawn.",
    "embedding_switches": "Switches to another trained version, or to none.",
    "drift_alarms": "Drift alarms: sudden falls of quality.",
    "checkpoints": "Checkpoints written.",
    "checkpoint_written_bytes": "Bytes of pages that checkpoints wrote.",
}


Taken = Callable[[], Mapping[TopicPartition, int]]


class Histogram:
    """Counts values by bucket, many at a time."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = np.array(bounds)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def add(self, values: Iterable[float]) -> None:
        """Counts each value."""
        array = np.fromiter(values, np.float64)
        places = np.searchsorted(self._bounds, array)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(array.sum())

    def add_one(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, help_: str) -> HistogramMetricFamily:
        """For Prometheus."""
        upper = [*(str(bound) for bound in self._bounds.tolist()), "+Inf"]
        buckets = list(zip(upper, np.cumsum(self._counts).tolist(), strict=True))
        return HistogramMetricFamily(name, help_, buckets=buckets, sum_value=self._sum)


class RunMetrics:
    """One process of `freshet run`, through all the workers that it starts one after the other."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings, self._clock = settings, clock
        self._stage: Stage = "starting"
        self._count: Counter[str] = Counter()
        self._dead: Counter[Reason] = Counter()
        self._take, self._commit, self._checkpoint = Histogram(), Histogram(), Histogram()
        self._latency = Histogram()
        self._to_recover, self._recovered, self._recovering_since = 0, 0, 0.0
        self._checkpointed_ms: int | None = None
        self._delta_bytes = 0
        self._watched: tuple[Log, StreamState, Taken] | None = None
        self._ageing: Ageing | None = None
        self.registry = CollectorRegistry()
        self.registry.register(self)

    # what the worker says

    def starting(self) -> None:
        """A worker loads what it needs."""
        self._stage = "starting"

    def recovering(self, events: int, advance: Callable[[int], None]) -> Callable[[int], None]:
        """So many interactions will be taken again; gives what is to be called as they are, which calls `advance`."""
        self._to_recover, self._recovered, self._recovering_since = events, 0, self._clock.monotonic()
        self._stage = "recovering"

        def advanced(n: int) -> None:
            self._recovered += n
            advance(n)

        return advanced

    def ready(self, log: Log, state: StreamState, taken: Taken) -> None:
        """The state is that of the last commit, and the next epoch takes no longer than any other.

        `taken`: the offset up to which each partition that is this worker's at the moment is taken.
        """
        self._watched, self._stage = (log, state, taken), "ready"

    def watch(self, ageing: Ageing | None) -> None:
        """What says when lists are due, of the worker that is ready; None: nothing does."""
        self._ageing = ageing

    def waiting(self) -> None:
        """The log has gone away; another worker will be tried."""
        self._watched, self._stage = None, "waiting"

    def committed(self, seconds: float) -> None:
        """A commit took so long."""
        self._commit.add_one(seconds)

    def checkpointed(self, seconds: float, delta: StateDelta) -> None:
        """A checkpoint is written, which took so long, with what was done between its pieces."""
        self._checkpointed_ms = self._clock.now_ms()
        self._checkpoint.add_one(seconds)
        self._delta_bytes = sum(len(value) for value in delta.values() if value)
        self._count["checkpoints"] += 1
        self._count["checkpoint_written_bytes"] += self._delta_bytes

    def epoch(self, epoch: EpochInput, output: EpochOutput, took_s: float) -> None:
        """An epoch is committed, which took so long to take."""
        self._take.add_one(took_s)
        topics = Counter(record.topic for record in output.records)
        self._count.update(
            epochs=1,
            interactions=len(output.taken),
            observed_interactions=output.observed,
            added_steps=output.added,
            duplicates=output.admitted.duplicates,
            void=output.admitted.void,
            taken_back=output.taken_back,
            erased_users=output.erased,
            repairs=int(output.repaired),
            lists=topics[self._settings.recommendations_topic],
            embedding_switches=int(epoch.embeddings is not None),
            drift_alarms=sum(record.key == DRIFT_KEY for record in output.records),
        )
        self._dead.update(letter.reason for letter in (*epoch.dead, *output.admitted.dead))
        now_ms = self._clock.now_ms()
        self._latency.add((now_ms - output.taken[n].record.timestamp_ms) / 1000 for n in output.published.tolist())

    # what an operator asks

    def achieved(self) -> int:
        """How many epochs have been committed: what a supervisor asks."""
        return self._count["epochs"]

    def is_ready(self) -> bool:
        """Whether the worker takes what comes."""
        return self._stage == "ready"

    def stage_line(self) -> str:
        """The stage in a line, with the time that is left of a recovery."""
        if self._stage != "recovering" or not self._recovered:
            return {"waiting": "waiting for the log"}.get(self._stage, self._stage)
        rate = self._recovered / (self._clock.monotonic() - self._recovering_since)
        left_s = (self._to_recover - self._recovered) / rate
        return f"recovering: {self._recovered:,} of {counted(self._to_recover, 'interaction')}, {left_s:.0f} s left"

    def collect(self) -> Iterator[Metric]:
        """For Prometheus."""
        for name, what in COUNTERS.items():
            yield CounterMetricFamily(f"freshet_{name}", what, value=self._count[name])
        dead = CounterMetricFamily("freshet_dead_letters", "Records that could not be taken.", labels=["reason"])
        for reason in Reason:
            dead.add_metric([reason], self._dead[reason])
        yield dead
        yield self._latency.family(
            "freshet_event_to_list_seconds", "Time from an interaction's append to the commit of its list, s."
        )
        yield self._take.family("freshet_take_seconds", "Time to score, learn and observe an epoch, s.")
        yield self._commit.family("freshet_commit_seconds", "Time of a commit, s.")
        yield self._checkpoint.family(
            "freshet_checkpoint_write_seconds", "Time from the first to the last piece of a checkpoint, s."
        )
        yield from self._recovery()
        yield from self._checkpoints()
        if self._watched is not None:
            yield from self._of_state(self._watched[1])
            yield from self._of_ageing()
            yield from self._of_log(*self._watched)

    def _recovery(self) -> Iterator[Metric]:
        stage = GaugeMetricFamily("freshet_stage", "1 for the stage that the worker is in.", labels=["stage"])
        for name in get_args(Stage):
            stage.add_metric([name], float(name == self._stage))
        yield stage
        yield GaugeMetricFamily(
            "freshet_recovery_interactions", "Interactions that a recovery takes again.", value=self._to_recover
        )
        yield GaugeMetricFamily(
            "freshet_recovery_interactions_done",
            "Interactions that the recovery has taken again.",
            value=self._recovered,
        )

    def _checkpoints(self) -> Iterator[Metric]:
        if self._checkpointed_ms is not None:
            age_s = (self._clock.now_ms() - self._checkpointed_ms) / 1000
            yield GaugeMetricFamily("freshet_checkpoint_age_seconds", "Age of the last checkpoint, s.", value=age_s)
        yield GaugeMetricFamily(
            "freshet_checkpoint_delta_bytes", "Bytes of pages of the last checkpoint.", value=self._delta_bytes
        )
        yield GaugeMetricFamily(
            "freshet_disk_bytes", "Bytes of the files of the state.", value=_disk_bytes(self._settings)
        )

    def _of_state(self, state: StreamState) -> Iterator[Metric]:
        model = state.engine.model
        yield GaugeMetricFamily("freshet_users", "Users known.", value=len(model.users))
        yield GaugeMetricFamily("freshet_items", "Items known.", value=len(model.items))
        if state.clock_ms:
            delay_s = (self._clock.now_ms() - state.clock_ms) / 1000
            yield GaugeMetricFamily(
                "freshet_watermark_delay_seconds", "Time from the latest event time taken to now, s.", value=delay_s
            )

    def _of_ageing(self) -> Iterator[Metric]:
        if self._ageing is None:
            return
        due, oldest_ms = self._ageing.waiting()
        yield GaugeMetricFamily(
            "freshet_lists_due", "Lists that are to be made anew because time has passed.", value=due
        )
        yield GaugeMetricFamily(
            "freshet_lists_due_oldest_seconds", "How long the first of them has been due, s.", value=oldest_ms / 1000
        )
        for name, what, value in (
            ("aged_lists", "Lists made anew because time had passed.", self._ageing.aged),
            ("sampled_lists", "Lists that were looked at before they were due.", self._ageing.sampled),
            ("early_lists", "Of those, lists that had changed all the same.", self._ageing.early),
        ):
            yield CounterMetricFamily(f"freshet_{name}", what, value=value)

    def _of_log(self, log: Log, state: StreamState, taken: Taken) -> Iterator[Metric]:
        try:
            ends = log.ends(self._settings.interactions_topic)
        except (WireError, RuntimeError):  # away, or closed by a worker that starts again: the worker says it
            return
        lag = GaugeMetricFamily(
            "freshet_lag",
            "Interactions that wait in the log, of a partition that this worker has or is getting.",
            labels=["partition"],
        )
        for tp, reached in sorted(taken().items()):
            lag.add_metric([str(tp.partition)], max(ends.get(tp.partition, 0) - reached, 0))
        yield lag
        others = GaugeMetricFamily(
            "freshet_observation_lag",
            "Interactions of a partition that another worker has, which are not observed yet.",
            labels=["partition"],
        )
        positions = {
            tp.partition: at for tp, at in state.positions.items() if tp.topic == self._settings.interactions_topic
        }
        for partition in sorted(positions.keys() & state.observed.keys() - {tp.partition for tp in taken()}):
            others.add_metric([str(partition)], max(ends.get(partition, 0) - positions[partition], 0))
        yield others
        learning = GaugeMetricFamily(
            "freshet_learning_lag",
            "Interactions that this worker learned from and that are not in the last step of another one.",
            labels=["seat"],
        )
        for seat, events in state.learning.lag().items():
            learning.add_metric([seat], events)
        yield learning


def _disk_bytes(settings: Settings) -> int:
    """What the state takes on disk; in the embedded log's folder the log is counted with it."""
    folder = state_folder(settings) / "checkpoint" if settings.bootstrap else settings.log or DEFAULT_LOG
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # RocksDB has just merged it into another
                total += os.stat(os.path.join(path, name)).st_size
    return total
