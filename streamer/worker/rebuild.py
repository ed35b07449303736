"""Rebuild: the state made again from the log, without anything that was taken back: what was learned of it goes too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from consumers.errors import PositionGone
from consumers.log import Log
from consumers.records import NewRecord
from consumers.schemas import AsOf, EpochManifest, Interaction
from streamer.errors import StateUnreadable
from streamer.features.event_ids import digest_event_id
from streamer.lists.publisher import Publisher
from streamer.pipeline.beside import ListsBeside
from streamer.pipeline.known_positions import by_partition
from streamer.pipeline.pipeline import Pipeline
from streamer.pipeline.surface_lists import Listed
from streamer.pipeline.surfaces import build_surfaces
from streamer.runtime.topics import output_limits
from streamer.settings import Settings
from streamer.state.published_lists import PublishedLists
from streamer.state.stream_state import StreamState
from streamer.worker import log_reach
from streamer.worker.checkpoint_stamp import written_now
from streamer.worker.recovery import first_positions, inputs_again, manifests
from tgn.graph import I32


class Rebuilt(NamedTuple):
    """What a rebuild did."""

    epochs: int
    interactions: int
    taken_back: int  # interactions that were never taken this time
    lists: int  # published because they are others now


def rebuild(log: Log, settings: Settings, advance: Callable[[int], None] = lambda records: None) -> Rebuilt:
    """Takes every committed epoch of the checkpoint again, into an empty state that takes the checkpoint's place.

    (1) The epochs without what was retracted later, (2) lists that come out differently, (3) one commit: of these, a
    manifest that says so, and the state. Raises StateUnreadable without a checkpoint, PositionGone where the log no
    longer reaches back.
    """
    committer = log.committer(settings.application)
    try:
        old = StreamState(settings, committer.load_state)
        if not old.load():
            raise StateUnreadable("there is no checkpoint to rebuild; `freshet run` makes the first one")
        _check_reach(log, settings, old)
        every = manifests(log, settings, StreamState(settings), committer.seat)
        if every and every[-1].epoch > old.epoch:
            raise StateUnreadable(
                f"the checkpoint is of epoch {old.epoch}, the log goes on to {every[-1].epoch}: "
                "start `freshet run` and end it, then rebuild"
            )
        fresh = StreamState(settings)
        fresh.positions, fresh.topic_ids = first_positions(log, settings), old.topic_ids
        fresh.erasure_key, fresh.erased, fresh.erased_by_name = old.erasure_key, dict(old.erased), old.erased_by_name
        rebuild_into(log, settings, fresh, every, committer.seat, advance)
        lists = lists_anew(old, fresh, committer.seat, output_limits(log, settings))
        delta = dict.fromkeys(key for key, _ in committer.load_state())
        manifest = rebuilt_manifest(fresh, committer.seat)
        fresh.manifest_position = log.ends(settings.epochs_topic)[0]  # the epoch of the rebuild is no later one
        committer.commit([*lists, manifest], {}, delta | fresh.delta() | written_now())
        committer.purge_state()
    finally:
        committer.close()
    taken = fresh.engine.model.events
    return Rebuilt(len(every), taken, old.engine.model.events - taken, len(lists))


def rebuild_into(
    log: Log,
    settings: Settings,
    fresh: StreamState,
    epochs: Sequence[EpochManifest],
    worker: str,
    advance: Callable[[int], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Takes epochs into an empty state as if what they took back had never been, and lists everybody anew.

    The state has the epoch after them then: that of the rebuild.
    """
    for manifest in epochs:  # known from the start: nothing of these users is taken
        erased = fresh.erased if manifest.erased_at else fresh.erased_by_name
        for digest, before in manifest.erased.items():
            reached = {int(p): offset for p, offset in before.items()}
            for one in (digest, *manifest.sessions_erased.get(digest, ())):
                erased.setdefault(bytes.fromhex(one), (manifest.erased_at.get(digest, -1), reached))
    pipeline = Pipeline(settings, fresh, _retracted(log, settings, epochs), worker, output_limits(log, settings))
    for epoch in inputs_again(log, fresh, epochs, stop):
        pipeline.take(replace(epoch, aged=()))  # users have other indices, and everybody is listed anew below
        advance(len(epoch.arrivals))
    fresh.repairs.repair()
    fresh.epoch += 1
    users = np.array(sorted(fresh.listed.lists()), np.int32)
    fresh.listed.note(users, _relist(fresh, users, worker).outcome.published.item)
    beside = ListsBeside(fresh, build_surfaces(fresh), {})
    every = np.union1d(users, beside.users_with_lists()).astype(np.int32)
    ids = fresh.engine.model.users.ids
    beside.publish(every, lambda n: f"e-{worker}-{fresh.epoch}-{ids[every[n]]}", _as_of(fresh))


def _relist(fresh: StreamState, users: I32, worker: str) -> Listed:
    """The lists of users [N], as the rebuild publishes them."""
    ids, surface = fresh.engine.model.users.ids, _publisher(fresh)

    def list_id(n: int) -> str:
        return surface.list_id(f"e-{worker}-{fresh.epoch}-{ids[users[n]]}")

    return build_surfaces(fresh).main().relist(users, fresh.clock_ms, list_id)


def lists_anew(old: StreamState, fresh: StreamState, worker: str, limits: Mapping[str, int]) -> list[NewRecord]:
    """What a rebuild publishes: the lists that are others than those of `old`, and who has none any more."""
    before = _named_lists(old, old.listed)
    users = np.array(sorted(fresh.listed.lists()), np.int32)
    publisher = _publisher(fresh, limits)
    outcome, propensity = _relist(fresh, users, worker)
    book = build_surfaces(fresh).main().book
    as_of = _as_of(fresh)
    now, records = _named_lists(fresh, fresh.listed), []
    for n, user in enumerate(users.tolist()):
        name = fresh.engine.model.users.ids[user]
        if now[name] != before.get(name):
            cause = f"e-{worker}-{fresh.epoch}-{name}"
            records.append(publisher.make_list(cause, name, as_of, outcome, n, (), book, propensity))
    records += [publisher.withdrawal(name) for name in before if name not in now]
    return records + [record for name in fresh.beside for record in _beside_anew(old, fresh, name, worker, limits)]


def _beside_anew(
    old: StreamState, fresh: StreamState, surface: str, worker: str, limits: Mapping[str, int]
) -> list[NewRecord]:
    """The same of the lists of another surface."""
    lists = old.beside.get(surface)
    before = {} if lists is None else _named_lists(old, lists)
    now = _named_lists(fresh, fresh.beside[surface])
    beside, ids = ListsBeside(fresh, build_surfaces(fresh), limits), fresh.engine.model.users
    users = np.array([ids.get(name) for name in now if now[name] != before.get(name)], np.int32)
    made = beside.make(surface, users, lambda n: f"e-{worker}-{fresh.epoch}-{ids.ids[users[n]]}", _as_of(fresh))
    gone = [beside.withdrawal(surface, name) for name in before if name not in now]
    return [*map(made.record, range(len(users))), *gone]


def _as_of(fresh: StreamState) -> AsOf:
    return AsOf(fresh.clock_ms, by_partition(fresh.positions, fresh.settings.interactions_topic))


def rebuilt_manifest(fresh: StreamState, worker: str) -> NewRecord:
    """What says that the state was rebuilt before the next epoch."""
    manifest = EpochManifest(epoch=fresh.epoch, ends={}, events=0, worker=worker, rebuilt=True)
    return _publisher(fresh).manifest(manifest)


def _publisher(fresh: StreamState, limits: Mapping[str, int] | None = None) -> Publisher:
    return Publisher(fresh.settings, fresh.engine.model, fresh.catalogue.attributes_of, limits)


def _named_lists(state: StreamState, lists: PublishedLists) -> dict[str, list[str]]:
    users, items = state.engine.model.users.ids, state.engine.model.items.ids
    return {users[u]: [items[item] for item in listed] for u, listed in lists.lists().items() if users[u]}


def _check_reach(log: Log, settings: Settings, state: StreamState) -> None:
    if lost := log_reach.gone(
        settings, log_reach.bounds(log, settings), log_reach.of_state(state, settings), state.topic_ids
    ):
        raise PositionGone(f"{lost[0].found}: what the state was made from is not there any more")
    for topic in {tp.topic for tp in state.positions}:
        if any(log.starts(topic).values()):
            raise PositionGone(f"{topic} no longer holds its first records: what was learned of them would be lost")


def _retracted(log: Log, settings: Settings, epochs: Sequence[EpochManifest]) -> frozenset[bytes]:
    """Digests of the event ids that retractions in these epochs name."""
    named = list[tuple[str, str]]()
    for epoch in inputs_again(log, StreamState(settings), epochs):
        payloads = (arrival.payload for arrival in epoch.arrivals)
        named += [(p.user_id, p.event_id or "") for p in payloads if isinstance(p, Interaction) and p.retract]
        named += [retracted for one in epoch.observed for retracted in one.block.retractions]
    return frozenset(digest_event_id(user_id, event_id) for user_id, event_id in named)
