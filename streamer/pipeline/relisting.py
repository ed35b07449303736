"""Lists that are made anew with no interaction of their user: what they name has changed, or time has gone on."""

from collections.abc import Callable

import numpy as np

from consumers.records import NewRecord
from consumers.schemas import AsOf
from streamer.lists.publisher import Publisher
from streamer.pipeline.known_positions import by_partition
from streamer.pipeline.list_changes import differs
from streamer.pipeline.surface_lists import SurfaceLists
from streamer.state.stream_state import StreamState
from tgn.graph import I32


def cause_of_epoch(state: StreamState, worker: str, user_id: str) -> str:
    """What names the epoch that is being taken in the id of a list."""
    return f"e-{worker}-{state.epoch + 1}-{user_id}"


def relist(
    state: StreamState,
    surface: SurfaceLists,
    publish: Publisher,
    worker: str,
    wanted: I32,
    now_ms: int,
    between: Callable[[], None] | None = None,
) -> dict[str, NewRecord]:
    """The lists, by user, that are others now; who has done nothing any more has none.

    Args:
        surface: makes them.
        worker: whose epoch it is.
        wanted: [N] users whose interactions, listed items or time changed; those without a list get none.
        now_ms: the stream's clock.
        between: see `SurfaceLists.relist`.
    """
    if not len(wanted):
        return {}
    lists, model = dict[str, NewRecord](), state.engine.model
    ids = model.users.ids
    users = wanted[state.listed.has_list(wanted)]
    active = model.graph.users.events[users] > 0
    for user in users[~active].tolist():
        lists[ids[user]] = publish.withdrawal(ids[user])
    state.listed.withdraw(users[~active])
    users = users[active]
    if not surface.is_published():
        state.listed.withdraw(users)
        return lists | {ids[user]: publish.withdrawal(ids[user]) for user in users.tolist()}
    causes = [cause_of_epoch(state, worker, ids[user]) for user in users.tolist()]
    outcome, propensity = surface.relist(users, now_ms, lambda n: publish.list_id(causes[n]), between=between)
    as_of = AsOf(now_ms, by_partition(state.positions, state.settings.interactions_topic))
    changed = differs(state.listed, users, outcome.published.item)
    if not (state.settings.publish_distance or surface.has_wishes or surface.rivals):
        changed |= outcome.changed.astype(bool)  # also what another worker may have published since
    for n in np.flatnonzero(changed).tolist():
        user_id = ids[users[n]]
        lists[user_id] = publish.make_list(causes[n], user_id, as_of, outcome, n, (), surface.book, propensity)
    state.listed.note(users, outcome.published.item)
    return lists
