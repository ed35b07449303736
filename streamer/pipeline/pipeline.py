"""One epoch: records → score, learn, observe → records to publish. No clock, no I/O but the ledger's: a function."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from consumers.dead_letter import DeadLetter, dead_letter_record
from consumers.event_weights import EventWeights
from consumers.records import RECORD_BYTES, NewRecord
from consumers.schemas import AsOf
from streamer.engine.engine import Columns, last_of_user
from streamer.errors import StateUnreadable
from streamer.features.event_ids import digest_event_id, digest_unscoped
from streamer.lists.publisher import Publisher
from streamer.pipeline.admission import admit
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.beside import ListsBeside
from streamer.pipeline.entering import enter
from streamer.pipeline.epoch import EpochInput, EpochOutput, Erasure, ItemChange
from streamer.pipeline.event_order import Placed
from streamer.pipeline.known_positions import by_partition, places_in, positions_after
from streamer.pipeline.learning import add_learned, own_step
from streamer.pipeline.list_changes import differs
from streamer.pipeline.manifest import manifest
from streamer.pipeline.merging import merge_sessions, owner_and_names
from streamer.pipeline.node_changes import NodeChanges
from streamer.pipeline.observed_block import Retracted
from streamer.pipeline.observing import Observed, observe
from streamer.pipeline.outcomes import with_lists_of
from streamer.pipeline.relisting import cause_of_epoch, relist
from streamer.pipeline.sharing import shared_blocks
from streamer.pipeline.surface_lists import Listed
from streamer.pipeline.surfaces import build_surfaces
from streamer.runtime.telemetry import carried
from streamer.settings import Settings
from streamer.state.ledger import event_number
from streamer.state.merges import WaitingMerge
from streamer.state.pending_repairs import ALL
from streamer.state.stream_state import StreamState
from tgn.graph import I32, I64
from tgn.prequential import Outcome

NOBODY, NO_ROWS = np.zeros(0, np.int32), np.zeros(0, np.int64)
QUALITY_EVERY = 500  # measured events between two figures on the quality topic
LISTS_AT_ONCE = 8  # written in words before somebody else may look at the state: some .5 ms


class Pipeline:
    """Takes epochs into a `StreamState`, by the settings that are in force there.

    Args:
        void_events: see `streamer.pipeline.admission.admit`.
        worker: whose epochs these are.
        limits: the largest record of each topic that is written to, see `Log.record_limits`.

    `between`, where it is set, is called before an epoch and between two pieces of work on it, and may read the state.
    `test_sources`: whether somebody wants the sources of the test lists.
    """

    between: Callable[[], None] | None = None
    test_sources = False

    def __init__(
        self,
        settings: Settings,
        state: StreamState,
        void_events: Collection[bytes] = (),
        worker: str = "",
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._embeddings, self._state, self._void_events, self._worker = settings.embeddings, state, void_events, worker
        self._void_numbers = np.array([event_number(digest) for digest in void_events], np.uint64)
        self._limits = limits or {}
        self._surfaces = build_surfaces(state)
        self._beside = ListsBeside(state, self._surfaces, self._limits)
        self._nodes = NodeChanges(state, self._beside)
        self._follow(state.settings)

    def _follow(self, settings: Settings) -> None:
        self._settings = settings
        self._weights = EventWeights(settings.event_weights, settings.max_weight, self._state.value_means)
        self._publish = Publisher(settings, self._state.engine.model, self._state.catalogue.attributes_of, self._limits)
        self._dead_bytes = self._limits.get(settings.dead_topic, RECORD_BYTES)
        self._block_bytes = self._limits.get(settings.observed_topic, RECORD_BYTES)
        self._step_bytes = self._limits.get(settings.model_topic, RECORD_BYTES)

    def take(self, epoch: EpochInput) -> EpochOutput:
        """The one way of an epoch, live and in recovery.

        (1) a switch to other settings, rules and embeddings, and what other workers learned, (2) items and users, what
        other workers admitted, items that come into lists or leave them by now, (3) interactions, (4) sessions that are
        users' now, and what is taken back, (5) a piece of the repair of the graph, where it is due, (6) positions and
        the manifest.
        """
        self._pause()
        state = self._state
        taken_back, clock_ms = state.repairs.taken_back, state.clock_ms
        self._switch(epoch)  # (1)
        added = add_learned(state, epoch, self._worker)
        passed = self._beside.passing() if epoch.changes else {}
        withdrawn = self._nodes.take(epoch.changes, self._publish)  # (2)
        observed = observe(state, epoch.observed, self._void_numbers, self.between) if epoch.observed else Observed()
        self._go_on(epoch.arrivals)
        admitted = admit(
            epoch.arrivals, state, self._settings, self._weights, self._void_events, epoch.adopted, self.between
        )
        self._nodes.flip_items(
            max([clock_ms, epoch.now_ms, *(placed.interaction.timestamp for placed in admitted.placed[:1])]),
            max(state.clock_ms, epoch.now_ms),
        )
        if items := sorted({change.item_id for change in epoch.changes if isinstance(change, ItemChange)}):
            nodes = np.array(state.engine.model.items.encode(items), np.int32)
            state.repairs.relist(self._beside.refused(passed, nodes))
        listed = self._learn_and_list(admitted.placed, epoch) if admitted.placed else _EpochLists()  # (3)
        self._pause()
        blocks = [] if epoch.adopted else shared_blocks(epoch, admitted, listed.columns, state, self._block_bytes)
        blocks += own_step(state, epoch, self._worker, len(admitted.placed), self._step_bytes)
        merges = [*observed.merges, *admitted.merges]
        merged = self._merge(merges, epoch) if merges or state.merges.waiting else {}  # (4)
        self._retract([*observed.retractions, *(retracted for _, retracted in admitted.retractions)])
        erased = [change for change in epoch.changes if isinstance(change, Erasure)]
        repaired = bool(len(state.repairs)) and (epoch.repair or bool(erased) or bool(merged))
        changed = state.repairs.repair(epoch.repair_size or ALL) if repaired else NOBODY  # (5)
        now_ms = max(state.clock_ms, epoch.now_ms)
        anew = np.union1d(changed, np.array(epoch.aged, np.int32))
        beside = self._publish_beside(admitted.placed, anew, epoch)
        lists = {**listed.lists, **merged} | relist(
            state, self._surfaces.main(), self._publish, self._worker, anew, now_ms, self.between
        )
        state.positions.update(epoch.ends)  # (6)
        state.records += len(epoch.arrivals)
        state.epoch += 1
        named = manifest(epoch, state, self._worker, repaired, erased, self._nodes.sessions_erased)
        written = self._publish.manifest(named, state.made_anew)
        state.made_anew = []
        letters = self._dead_letters((*epoch.dead, *admitted.dead))
        outputs = [] if epoch.adopted else [*letters, *listed.measured, *withdrawn, *lists.values(), *beside, *blocks]
        return EpochOutput(
            records=[*outputs, written],
            taken=[placed.arrival for placed in admitted.placed],
            outcome=listed.outcome,
            published=listed.published,
            listed=state.listed.noted(),
            admitted=admitted,
            observed=observed.events,
            added=added,
            dead=len(letters),
            repaired=repaired,
            erased=len(erased),
            taken_back=state.repairs.taken_back - taken_back,
        )

    def _pause(self) -> None:
        """Lets somebody else look at the state, where anybody is to."""
        if self.between is not None:
            self.between()

    def _switch(self, epoch: EpochInput) -> None:
        """Goes over to what is in force from this epoch on: settings, partitions and embeddings."""
        state = self._state
        if epoch.settings is not None:
            state.take_on(epoch.settings)
        if state.settings is not self._settings:
            self._follow(state.settings)
        if epoch.rules is not None:
            state.take_rules(epoch.rules)
            if {state.settings.surface, *self._beside.names()} & epoch.rules.keys():
                state.repairs.relist(np.array(sorted(state.listed.lists()), np.int32))
        for partition in epoch.released:
            state.listed.release(partition)
        for partition in epoch.regained:
            state.listed.regain(partition)
        if epoch.embeddings is not None:
            self._load_embeddings(epoch.embeddings)

    def _dead_letters(self, letters: Sequence[DeadLetter]) -> list[NewRecord]:
        return [dead_letter_record(letter, self._settings.dead_topic, self._dead_bytes) for letter in letters]

    def _load_embeddings(self, version: str) -> None:
        folder = self._embeddings
        if folder is None and version:
            raise StateUnreadable(
                f"epoch {self._state.epoch + 1} switched to the embeddings {version}: start with --embeddings FOLDER"
            )

        def is_erased(user_id: str) -> bool:
            return self._state.erasure_of(user_id) is not None

        self._state.engine.load_embeddings(folder or Path(), version, is_erased)

    def _publish_beside(self, placed: Sequence[Placed], anew: I32, epoch: EpochInput) -> list[NewRecord]:
        """The lists of other surfaces, of the users of an epoch's interactions, and of those to be listed anew."""
        state = self._state
        if not self._beside.names() or epoch.adopted:
            return []
        last = {p.interaction.user_id: p for p in placed}
        users = np.array([state.engine.model.users.get(user) for user in last], np.int32)
        again = np.setdiff1d(anew, users).astype(np.int32)
        again = again[state.listed.has_list(again) | self._beside.has_list(again)]
        ids = state.engine.model.users.ids
        causes = [
            *map(_cause, last.values()),
            *(cause_of_epoch(state, self._worker, ids[user]) for user in again.tolist()),
        ]
        positions = by_partition({**state.positions, **epoch.ends}, self._settings.interactions_topic)
        as_of = AsOf(max(state.clock_ms, epoch.now_ms), positions)
        partitions = [p.arrival.partition for p in last.values()] + state.listed.partitions(again).tolist()
        every = np.concatenate([users, again]).astype(np.int32)
        return self._beside.publish(every, causes.__getitem__, as_of, np.array(partitions, np.int32), self.between)

    # interactions

    def _go_on(self, arrivals: Sequence[Arrival]) -> None:
        """Where partitions have come from other workers, their watermarks count from their first records here on."""
        state = self._state
        if state.watermarks:
            came = {arrival.partition for arrival in arrivals} & state.watermarks.keys()
            state.clock_ms = max([state.clock_ms, *(state.watermarks.pop(partition) for partition in came)])

    def _learn_and_list(self, placed: Sequence[Placed], epoch: EpochInput) -> "_EpochLists":
        """Scores, learns and observes interactions; returns what is to be published of them."""
        state = self._state
        interactions = [p.interaction for p in placed]
        columns = state.engine.encode(
            [i.user_id for i in interactions],
            [i.item_id for i in interactions],
            [i.timestamp for i in interactions],
            [self._weights.weigh(i.event_type, i.value) for i in interactions],
            [i.context for i in interactions],
        )
        surface = self._surfaces.main()

        def list_id(n: int) -> str:
            return self._publish.list_id(_cause(placed[n]))

        listed = surface.take(
            columns,
            list_id,
            publish=surface.is_published(),
            between=self.between,
            sources=self.test_sources,
            learn=not (epoch.adopted and epoch.keeps),  # who took them first has learned from them, and tells it
        )
        (outcome, propensity), figures = self._challenge(columns, listed, list_id)
        if epoch.adopted:  # what was published came from another worker's state
            state.engine.model.forget_published(columns.user)
        self._enter(placed, columns)
        changed = np.flatnonzero(self._should_publish(columns.user, outcome))
        lists = self._lists(placed, Listed(outcome, propensity), changed, epoch)
        partitions = np.array([p.arrival.partition for p in placed], np.int32)
        state.listed.note(columns.user[changed], outcome.published.item[changed], partitions[changed])
        self._pause()
        measured = [*self._measure(placed, columns, outcome, epoch), *figures]
        return _EpochLists(columns, outcome, changed, lists, measured)

    def _challenge(
        self, columns: Columns, listed: Listed, list_id: Callable[[int], str]
    ) -> tuple[Listed, list[NewRecord]]:
        """Has challengers take the same interactions: what is listed, of users in their arms by them; their figures."""
        state, main, records = self._state, self._surfaces.main(), list[NewRecord]()
        live = listed.outcome
        for key, one in state.challengers.items():
            mine = main.rows_of(key, columns.user) & main.is_published()
            publish = (last_of_user(columns.user) * mine).astype(np.uint8)
            lists = self._surfaces.lists_of(state.settings.surface, key)
            theirs = lists.take(columns, list_id, publish=publish, between=self.between)
            if publish.any():
                rows = np.flatnonzero(publish)
                listed = Listed(with_lists_of(listed.outcome, theirs.outcome, rows), listed.propensity)
                if listed.propensity is not None and theirs.propensity is not None:
                    listed.propensity[rows] = theirs.propensity[rows]
            before = one.quality.events
            one.quality.add(theirs.outcome.rank, live.rank)
            if before // QUALITY_EVERY != one.quality.events // QUALITY_EVERY:
                figures = one.quality.figures(self._settings.k)
                records += self._publish.challenger_quality(key, figures, one.quality.events, state.clock_ms)
        return listed, records

    def _should_publish(self, users: I32, outcome: Outcome) -> np.ndarray:
        """[N] whether the list after each interaction is to be published: where it is far enough from the last one."""
        threshold, surface = self._settings.publish_distance, self._surfaces.main()
        changed = outcome.changed.astype(bool)
        if surface.has_wishes or surface.rivals:  # what changed is the list, not the ranking that it was chosen from
            changed = last_of_user(users).astype(bool) & surface.is_published()
        if threshold or surface.has_wishes or surface.rivals:
            rows = np.flatnonzero(changed)
            changed[rows] = differs(self._state.listed, users[rows], outcome.published.item[rows], threshold)
        return changed

    def _lists(
        self, placed: Sequence[Placed], listed: Listed, changed: np.ndarray, epoch: EpochInput
    ) -> dict[str, NewRecord]:
        """The last list of each user that these interactions changed; changed: which interactions' lists."""
        positions = positions_after(placed, changed, epoch, self._state.positions, self._settings.interactions_topic)
        lists = {}
        for made, n in enumerate(changed.tolist(), 1):
            if not made % LISTS_AT_ONCE:
                self._pause()
            arrival, interaction = placed[n].arrival, placed[n].interaction
            lists[interaction.user_id] = self._publish.make_list(
                _cause(placed[n]),
                interaction.user_id,
                AsOf(interaction.timestamp, positions[n]),
                listed.outcome,
                n,
                carried(arrival.record.headers),
                self._surfaces.main().book,
                listed.propensity,
            )
        return lists

    def _measure(
        self, placed: Sequence[Placed], columns: Columns, outcome: Outcome, epoch: EpochInput
    ) -> list[NewRecord]:
        """Adds to the figures of quality; returns those that are due, and alarms."""
        state, records = self._state, list[NewRecord]()
        before = state.quality.events
        state.quality.add(outcome.rank, outcome.popularity_rank)
        if before // QUALITY_EVERY != state.quality.events // QUALITY_EVERY:
            figures = state.quality.figures(self._settings.k)
            records += self._publish.quality(figures, state.quality.events, state.clock_ms)
        event = state.records + places_in(placed, epoch)
        alarms = state.drift.add(event, columns.t, outcome.rank, outcome.surprise)
        return records + [self._publish.alarm(alarm) for alarm in alarms]

    def _enter(self, placed: Sequence[Placed], columns: Columns) -> None:
        """Writes interactions into the ledger, and notes those that came late."""
        enter(
            self._state,
            columns,
            np.array([p.order_ms for p in placed], np.int64),
            np.array([p.order for p in placed], np.uint64),
            np.array([p.event for p in placed], np.uint64),
            np.flatnonzero([p.late for p in placed]),
        )

    # undo

    def _retract(self, retractions: Iterable[Retracted]) -> None:
        events: dict[int, list[int]] = {}
        users, merges = self._state.engine.model.users, self._state.merges
        for user_id, event_id in retractions:
            found = owner_and_names(users, merges, user_id)
            if found is None:
                continue
            owner, names = found
            digests = [digest_event_id(name, event_id) for name in names]
            digests.append(digest_unscoped(event_id))  # what older checkpoints have
            events.setdefault(owner, []).extend(map(event_number, digests))
        for node, of_user in events.items():
            self._state.repairs.retract(node, of_user)

    def _merge(self, merges: Sequence[WaitingMerge], epoch: EpochInput) -> dict[str, NewRecord]:
        topic, positions = self._settings.interactions_topic, {**self._state.positions, **epoch.ends}
        reached = {tp.partition: at for tp, at in positions.items() if tp.topic == topic}
        return merge_sessions(self._state, merges, reached, self._publish)


def _cause(placed: Placed) -> str:
    """What names an interaction in the ids of lists."""
    return f"{placed.arrival.partition}-{placed.arrival.offset}"


class _EpochLists(NamedTuple):
    """What comes of an epoch's interactions."""

    columns: Columns | None = None
    outcome: Outcome | None = None
    published: I64 = NO_ROWS  # of which interactions the lists are published
    lists: Mapping[str, NewRecord] = MappingProxyType({})  # by user
    measured: Sequence[NewRecord] = ()  # figures of quality, and alarms
