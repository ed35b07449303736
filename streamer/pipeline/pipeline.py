"""One epoch: records → score, learn, observe → records to publish. No clock, no I/O but the ledger's: a function."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from consumers.dead_letter import DeadLetter, Reason, dead_letter_record
from consumers.event_weights import EventWeights
from consumers.positions import by_topic
from consumers.records import RECORD_BYTES, NewRecord, TopicPartition
from consumers.schemas import AsOf, EpochManifest, Interaction
from streamer.engine.engine import Columns
from streamer.errors import StateUnreadable
from streamer.features.event_ids import digest_of, unscoped_digest_of
from streamer.lists.publisher import Publisher
from streamer.pipeline.admission import admit
from streamer.pipeline.epoch import EpochInput, EpochOutput, Erasure, ItemChange, NodeChange, UserChange
from streamer.pipeline.event_order import Placed
from streamer.runtime.telemetry import carried
from streamer.settings import Settings
from streamer.state.ledger import ENTRY, event_number
from streamer.state.pending_repairs import ALL
from streamer.state.stream_state import StreamState
from tgn.graph import I32, I64
from tgn.prequential import Outcome

NOBODY = np.zeros(0, np.int32)
QUALITY_EVERY = 500  # measured events between two figures on the quality topic


class Pipeline:
    """Takes epochs into a `StreamState`, by the settings that are in force there.

    Args:
        void_events: see `streamer.pipeline.admission.admit`.
        worker: whose epochs these are.
        limits: the largest record of each topic that is written to, see `Log.record_limits`.
    """

    def __init__(
        self,
        settings: Settings,
        state: StreamState,
        void_events: Container[bytes] = (),
        worker: str = "",
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._embeddings, self._state, self._void_events, self._worker = settings.embeddings, state, void_events, worker
        self._limits = limits or {}
        self._follow(state.settings)

    def _follow(self, settings: Settings) -> None:
        self._settings = settings
        self._weights = EventWeights(settings.event_weights, settings.max_weight, self._state.value_means)
        self._publish = Publisher(settings, self._state.engine.model, self._limits)
        self._dead_bytes = self._limits.get(settings.dead_topic, RECORD_BYTES)

    def take(self, epoch: EpochInput) -> EpochOutput:
        """The one way of an epoch, live and in recovery.

        (1) a switch to other settings and embeddings, (2) items and users, (3) interactions, (4) what is taken back,
        (5) a piece of the repair of the graph, where it is due, (6) positions and the manifest.
        """
        state = self._state
        taken_back = state.amendments.taken_back
        self._switch(epoch)  # (1)
        withdrawn = self._change_nodes(epoch.changes)  # (2)
        admitted = admit(epoch.arrivals, state, self._settings, self._weights, self._void_events, epoch.adopted)
        listed = self._learn_and_list(admitted.placed, epoch) if admitted.placed else _Listed(None, {}, [])  # (3)
        self._retract(admitted.retractions)  # (4)
        erased = [change for change in epoch.changes if isinstance(change, Erasure)]
        repaired = bool(len(state.amendments)) and (epoch.repair or bool(erased))
        changed = state.amendments.repair(epoch.repair_size or ALL) if repaired else NOBODY  # (5)
        lists = listed.lists | self._relist(changed, state.epoch + 1)
        state.positions.update(epoch.ends)  # (6)
        state.records += len(epoch.arrivals)
        state.epoch += 1
        manifest = self._manifest(epoch, repaired, erased)
        state.made_anew = []
        letters = self._dead_letters((*epoch.dead, *admitted.dead))
        outputs = [] if epoch.adopted else [*letters, *listed.measured, *withdrawn, *lists.values()]
        return EpochOutput(
            records=[*outputs, manifest],
            taken=[placed.arrival for placed in admitted.placed],
            outcome=listed.outcome,
            admitted=admitted,
            dead=len(letters),
            repaired=repaired,
            erased=len(erased),
            taken_back=state.amendments.taken_back - taken_back,
        )

    def _switch(self, epoch: EpochInput) -> None:
        """Goes over to what is in force from this epoch on: settings, partitions and embeddings."""
        state = self._state
        if epoch.settings is not None:
            state.take_on(epoch.settings)
        if state.settings is not self._settings:
            self._follow(state.settings)
        for partition in epoch.released:
            state.listed.release(partition)
        for partition in epoch.regained:
            state.listed.regain(partition)
        if epoch.embeddings is not None:
            self._adopt(epoch.embeddings)

    def _dead_letters(self, letters: Sequence[DeadLetter]) -> list[NewRecord]:
        return [dead_letter_record(letter, self._settings.dead_topic, self._dead_bytes) for letter in letters]

    def _adopt(self, version: str) -> None:
        folder = self._embeddings
        if folder is None and version:
            raise StateUnreadable(
                f"epoch {self._state.epoch + 1} switched to the embeddings {version}: start with --embeddings FOLDER"
            )

        def is_erased(user_id: str) -> bool:
            return self._state.erasure_of(user_id) is not None

        self._state.engine.adopt(folder or Path(), version, is_erased)

    # items and users

    def _change_nodes(self, changes: Sequence[NodeChange]) -> list[NewRecord]:
        """Takes changes of items and users; returns the withdrawn lists of those who were erased."""
        withdrawn: list[NewRecord] = []
        for change in changes:
            if isinstance(change, ItemChange):
                self._change_item(change)
            elif isinstance(change, UserChange):
                self._state.engine.describe(change.user)
            else:
                withdrawn += self._erase(change)
        return withdrawn

    def _change_item(self, change: ItemChange) -> None:
        state, model = self._state, self._state.engine.model
        if change.item is not None:
            state.engine.introduce(change.item, state.clock_ms)
            if not change.item.hidden:
                return
        node = model.items.encode([change.item_id])[0]
        if change.item is None:
            model.delete(node)
            state.amendments.drop_item(node)
        state.amendments.relist(state.listed.naming(node))

    def _erase(self, erasure: Erasure) -> list[NewRecord]:
        """Takes a user out of the ledger, the lists and the ids; what comes of them later is somebody new."""
        state, user_id = self._state, erasure.user_id
        topic = self._settings.interactions_topic
        before = {tp.partition: offset for tp, offset in state.positions.items() if tp.topic == topic}
        erased = state.erased_by_name if erasure.by_name else state.erased
        erased[erasure.digest or state.digest_of(user_id)] = (erasure.at_ms, before)
        node = state.engine.model.users.get(user_id)
        if node is None:
            return []
        had_list = state.listed.has_list(np.array([node], np.int32))[0]
        state.amendments.erase(node)
        state.listed.withdraw(np.array([node], np.int32))
        state.engine.model.forget_user(node)
        return [self._publish.withdrawal(user_id)] if had_list else []

    # interactions

    def _learn_and_list(self, placed: Sequence[Placed], epoch: EpochInput) -> "_Listed":
        """Scores, learns and observes interactions; returns what is to be published of them."""
        state = self._state
        interactions = [p.interaction for p in placed]
        columns = state.engine.encode(
            [i.user_id for i in interactions],
            [i.item_id for i in interactions],
            [i.timestamp for i in interactions],
            [self._weights.of(i.event_type, i.value) for i in interactions],
            [i.context for i in interactions],
        )
        outcome = state.engine.take(columns)
        if epoch.adopted:  # what was published came from another worker's state
            state.engine.model.forget_published(columns.user)
        self._enter(placed, columns)
        lists = self._lists(placed, outcome, epoch)
        changed = np.flatnonzero(outcome.changed)
        partitions = np.array([p.arrival.partition for p in placed], np.int32)
        state.listed.note(columns.user[changed], outcome.published.item[changed], partitions[changed])
        return _Listed(outcome, lists, self._measure(placed, columns, outcome, epoch))

    def _lists(self, placed: Sequence[Placed], outcome: Outcome, epoch: EpochInput) -> dict[str, NewRecord]:
        """The last list of each user that these interactions changed."""
        positions = _positions_after(placed, epoch, self._state.positions, self._settings.interactions_topic)
        lists = {}
        for n in np.flatnonzero(outcome.changed).tolist():
            arrival, interaction = placed[n].arrival, placed[n].interaction
            lists[interaction.user_id] = self._publish.list_of(
                f"{arrival.partition}-{arrival.offset}",
                interaction.user_id,
                AsOf(interaction.timestamp, positions[n]),
                outcome,
                n,
                carried(arrival.record.headers),
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
        event = state.records + _places(placed, epoch)
        alarms = state.drift.add(event, columns.t, outcome.rank, outcome.surprise)
        return records + [self._publish.alarm(alarm) for alarm in alarms]

    def _enter(self, placed: Sequence[Placed], columns: Columns) -> None:
        """Writes interactions into the ledger, and notes those that came late."""
        entries = np.zeros(len(placed), ENTRY)
        entries["order_ms"] = [p.order_ms for p in placed]
        entries["order"] = [p.order for p in placed]
        entries["t"] = [p.interaction.timestamp for p in placed]
        entries["event"] = [p.event for p in placed]
        entries["item"], entries["weight"], entries["context"] = columns.item, columns.weight, columns.context
        self._state.ledger.add(columns.user, entries)
        self._state.amendments.spare(columns.user, entries)
        for n, p in enumerate(placed):
            if p.late:
                self._state.amendments.late(int(columns.user[n]), p.order_ms, p.order)

    # undo

    def _retract(self, retractions: list[Interaction]) -> None:
        events: dict[int, list[int]] = {}
        for retraction in retractions:
            user_id, event_id = retraction.user_id, retraction.event_id
            node = self._state.engine.model.users.get(user_id)
            if node is not None and event_id is not None:
                digests = digest_of(user_id, event_id), unscoped_digest_of(event_id)  # what older checkpoints have
                events.setdefault(node, []).extend(map(event_number, digests))
        for node, of_user in events.items():
            self._state.amendments.retract(node, of_user)

    def _relist(self, changed: I32, epoch: int) -> dict[str, NewRecord]:
        """The new lists of those users whose interactions or listed items changed and who had one."""
        if not len(changed):
            return {}
        state, lists = self._state, dict[str, NewRecord]()
        model = state.engine.model
        users = changed[state.listed.has_list(changed)]
        active = model.graph.users.events[users] > 0
        for user in users[~active].tolist():
            lists[model.users.ids[user]] = self._publish.withdrawal(model.users.ids[user])
        state.listed.withdraw(users[~active])
        users = users[active]
        outcome = state.engine.relist(users, state.clock_ms)
        topic = self._settings.interactions_topic
        as_of = AsOf(state.clock_ms, by_partition(state.positions, topic))
        for n in np.flatnonzero(outcome.changed).tolist():
            user_id = model.users.ids[users[n]]
            lists[user_id] = self._publish.list_of(f"{epoch}-{user_id}", user_id, as_of, outcome, n)
        state.listed.note(users, outcome.published.item)
        return lists

    def _manifest(self, epoch: EpochInput, repaired: bool, erased: Sequence[Erasure]) -> NewRecord:
        refused: dict[str, list[int]] = {}
        for arrival in epoch.arrivals:
            if isinstance(arrival.payload, DeadLetter) and arrival.payload.reason is Reason.FUTURE_TIMESTAMP:
                refused.setdefault(str(arrival.partition), []).append(arrival.offset)
        state, void, erased_at = self._state, dict[str, dict[str, int]](), dict[str, int]()
        for erasure in erased:
            digest = erasure.digest or state.digest_of(erasure.user_id)
            _, before = (state.erased_by_name if erasure.by_name else state.erased)[digest]
            void[digest.hex()] = {str(p): end for p, end in before.items()}
            erased_at[digest.hex()] = erasure.at_ms
        return self._publish.manifest(
            EpochManifest(
                epoch=state.epoch,
                ends=by_topic(epoch.ends),
                events=len(epoch.arrivals),
                refused=refused,
                repaired=repaired,
                erased=void,
                worker=self._worker,
                adopted=epoch.adopted,
                released=list(epoch.released),
                regained=list(epoch.regained),
                embeddings=epoch.embeddings,
                settings=epoch.settings,
                erased_at=erased_at,
                repair_size=epoch.repair_size if repaired else 0,
            ),
            state.made_anew,
        )


class _Listed(NamedTuple):
    """What comes of an epoch's interactions."""

    outcome: Outcome | None
    lists: dict[str, NewRecord]  # by user
    measured: list[NewRecord]  # figures of quality, and alarms


def _places(taken: Sequence[Placed], epoch: EpochInput) -> I64:
    """[N] which of the epoch's arrivals each taken one is."""
    if len(taken) == len(epoch.arrivals):
        return np.arange(len(taken))
    place = {(a.partition, a.offset): n for n, a in enumerate(epoch.arrivals)}
    return np.array([place[p.arrival.partition, p.arrival.offset] for p in taken])


def _positions_after(
    taken: Sequence[Placed], epoch: EpochInput, before: Mapping[TopicPartition, int], topic: str
) -> list[dict[str, int]]:
    """What each list knew: the next offset of every partition after each taken event."""
    reached = by_partition(before, topic)
    after, n = [], 0
    for arrival in epoch.arrivals:
        reached[str(arrival.partition)] = arrival.offset + 1
        if n < len(taken) and arrival is taken[n].arrival:
            after.append(dict(sorted(reached.items(), key=lambda entry: int(entry[0]))))
            n += 1
    return after


def by_partition(positions: Mapping[TopicPartition, int], topic: str) -> dict[str, int]:
    """The positions of one topic as records name them."""
    return {str(tp.partition): offset for tp, offset in sorted(positions.items()) if tp.topic == topic}
