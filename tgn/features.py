"""What the ranker knows of a candidate: F numbers, feature-major [F, C] so that every pass runs over candidates.

`squash` maps a probability or a decay to [0, 2.3] on a log scale; an absent one is 0. Features come in three blocks,
[0, RING_FEATURES) of the ring's items, [RING_FEATURES, USER_FEATURES) of every candidate, the rest of the user.
"""

import numpy as np

from tgn.config import CO_INTERACTION, HOUR_MS, HOURS, POPULAR, POPULARITY_SCALES, TRANSITIONS, Request, Scales
from tgn.graph import F32, I32, Graph, Items, Users
from tgn.kernel import fast_log, hour_of_day, kernel
from tgn.successors import to_now

# what only an item of the user's ring has: 0 for every other candidate, and those of the ring are the pool's first
REPEAT, RECENCY, AGE = 0, 1, 2  # AGE takes AGES places, one per popularity scale but the longest
RING_COUNT, RING_DECAYED, RING_SHARE, LAST = 6, 7, 8, 9
REPEAT_COUNT, REPEAT_IDLE, REPEAT_REPEATS = 10, 11, 12  # REPEAT crossed with what is the user's
HOUR, WEEK = 13, 14  # what the user does at this hour of the day and of the week
LOG_AGE, OTHERS_SINCE, LAST_TOUCHED = 15, 16, 17  # how long ago, what others did with it since, whether nobody did
RING_FEATURES = 20
# evidence from the rows of the user's last items
TRANSITION, TRANSITION_SHORT = 20, 23  # TRANSITION takes 3 places: from the last, the second last, those before
TRANSITIONS_APART = TRANSITION_SHORT - TRANSITION
CO, CO_COSINE, CO_LAST, CO_LAST_SHORT = 24, 25, 26, 27
# the item by itself
POPULARITY = 28  # one place per popularity scale
IDLE, ITEM_AGE, ITEM_COUNT, PREDECESSORS = 33, 34, 35, 36
ITEM_HOUR = 37  # how much of the item's own events fall on this hour of the day
EMBEDDING, EMBEDDING_SHARE = 38, 39  # what the learned embedding says
MEMORY_USERS, MEMORY_ITEMS = 40, 41  # do the same users lead to both, do the same items
CONTENT_LAST, CONTENT_RING = 42, 43  # is it like the last item, like the items of the ring
TRAINED_LAST, TRAINED_RING = 44, 45  # the same, by the vectors of a trained version
TRAINED_USER = 46  # how near it is to the user's own trained vector
CO_SITTING = 47  # P(with | source) by what lay in one sitting, from the rows of the user's last items
# the same for every candidate of a query: only column 0 holds it
USER_FEATURES = 48
USER_COUNT, USER_IDLE, USER_REPEATS, CATALOGUE = 48, 49, 50, 51
FEATURES = 52  # this and where blocks begin are multiples of 4, for the ranker's kernel

AGES = 4
WIDTHS = {"AGE": AGES, "TRANSITION": TRANSITIONS_APART, "POPULARITY": POPULARITY_SCALES}  # places of those with many
FLOOR = np.float32(1e-4)
SHIFT = np.float32(2.3025851)  # −ln(FLOOR) / 4
NEVER_LOG = np.float32(2.0)
HOUR_WIDTH_MS, WEEK_WIDTH_MS = 2 * HOUR_MS, 6 * HOUR_MS
PER_MINUTE = np.float32(1 / 60_000)


@kernel
def squash_decay(elapsed_ms: float, scale_ms: float) -> float:
    """`squash` of exp(−Δt/τ), without the exponential."""
    return max(np.float32(-max(elapsed_ms, 0) / scale_ms), np.float32(-9.21034)) * np.float32(0.25) + SHIFT


@kernel
def near_phase(elapsed_ms: int, period_ms: int, width_ms: int) -> float:
    """1 at the same phase of the period, falling to 0 at `width_ms` before or after it."""
    phase = max(elapsed_ms, 0) % period_ms
    return max(np.float32(0), np.float32(1) - np.float32(min(phase, period_ms - phase) / width_ms))


@kernel
def _squash_row(x: F32, n: int) -> None:
    for c in range(n):
        x[c] = fast_log(x[c] + FLOOR) * np.float32(0.25) + SHIFT


@kernel
def _log_minutes(elapsed_ms: float) -> float:
    return fast_log(np.float32(1) + np.float32(max(elapsed_ms, 0)) * PER_MINUTE) * np.float32(0.1)


@kernel
def complete_features(
    graph: Graph, x: F32, candidates: I32, n: int, held: int, request: Request, scales: Scales, catalogue: int
) -> None:
    """Turns the raw evidence in x [F, C] into features and adds those of the items and the user.

    `held`: how many candidates, the first ones, are of the user's ring.
    """
    items, now = graph.items, request.now
    _ring_features(items, x, candidates, held)
    long = len(scales.rows) - 1
    for c in range(n):
        if x[CO_COSINE, c] > 0:
            factor = to_now(graph.co.time, candidates[c], now, scales.rows[long])
            x[CO_COSINE, c] /= np.sqrt(graph.co.total[candidates[c], long] * factor + np.float32(1))
    for f in range(TRANSITION, CO_LAST_SHORT + 1):
        _squash_row(x[f], n)
    _squash_row(x[CO_SITTING], n)
    popularity_features(items, x, candidates, 0, n, now, scales)
    for c in range(n):
        z = candidates[c]
        x[IDLE, c] = np.float32(max(now - items.last_time[z], 0))
        x[ITEM_AGE, c] = np.float32(now - items.first_time[z])
        x[ITEM_COUNT, c] = np.float32(items.events[z])
        x[PREDECESSORS, c] = np.float32(items.predecessors[z])
    for c in range(n):
        x[IDLE, c] = _log_minutes(x[IDLE, c])
    for c in range(n):
        x[ITEM_AGE, c] = _log_minutes(x[ITEM_AGE, c])
    for c in range(n):
        x[ITEM_COUNT, c] = fast_log(np.float32(1) + x[ITEM_COUNT, c]) * np.float32(0.125)
    for c in range(n):
        x[PREDECESSORS, c] = fast_log(np.float32(1) + x[PREDECESSORS, c]) * np.float32(0.125)
    _item_hour(items, x[ITEM_HOUR], candidates, n, hour_of_day(now))
    _user_features(graph.users, x, held, request)
    x[CATALOGUE, 0] = np.float32(np.log(catalogue + 1.0) * 0.1)


@kernel
def popularity_features(items: Items, x: F32, candidates: I32, first: int, n: int, now: int, scales: Scales) -> None:
    """Writes the decayed popularities of candidates [first, n) into x [F, C], log p / 4 + 1, at least 0."""
    for c in range(first, n):
        z = candidates[c]
        idle_ms = np.float32(max(now - items.last_time[z], 0))
        for s in range(len(scales.popularity)):
            p = items.log_popularity[z, s] - idle_ms * np.float32(1 / scales.popularity[s])
            x[POPULARITY + s, c] = max(p, np.float32(-4)) * np.float32(0.25) + np.float32(1)


@kernel
def _ring_features(items: Items, x: F32, candidates: I32, held: int) -> None:
    for f in range(RING_DECAYED, RING_SHARE + 1):
        _squash_row(x[f], held)
    _squash_row(x[HOUR], held)
    _squash_row(x[WEEK], held)
    for c in range(held):
        x[RING_COUNT, c] = fast_log(np.float32(1) + x[RING_COUNT, c])
        others = items.events[candidates[c]] - x[OTHERS_SINCE, c]
        x[LAST_TOUCHED, c] = np.float32(1) if others <= 0 else np.float32(0)
        x[OTHERS_SINCE, c] = fast_log(np.float32(1) + max(np.float32(0), np.float32(others))) * np.float32(0.25)
        x[LOG_AGE, c] = _log_minutes(x[LOG_AGE, c])


@kernel
def _item_hour(items: Items, out: F32, candidates: I32, n: int, hour: int) -> None:
    """log of the share of an item's events at this hour and, by half, the two beside it, over that of chance."""
    before, after = (hour + 23) % 24, (hour + 1) % 24
    for c in range(n):
        hours, events = items.hours[candidates[c]], np.float32(items.events[candidates[c]])
        near = np.float32(hours[hour]) + np.float32(0.5) * np.float32(hours[before] + hours[after])
        out[c] = (near + np.float32(1)) * np.float32(12) / (events + np.float32(12))
    for c in range(n):
        out[c] = fast_log(out[c]) * np.float32(0.5)


@kernel
def _user_features(users: Users, x: F32, held: int, request: Request) -> None:
    user, now = request.user, request.now
    count = users.events[user]
    activity = np.float32(np.log(1.0 + count) / 5)
    idle = NEVER_LOG
    if count > 0:
        ring = users.ring_item.shape[1]
        idle = _log_minutes(np.float32(now - users.ring_time[user, (count - 1) % ring]))
    repeats = np.float32(users.repeats[user] / (count + 1.0))
    x[USER_COUNT, 0], x[USER_IDLE, 0], x[USER_REPEATS, 0] = activity, idle, repeats
    for c in range(held):
        x[REPEAT_COUNT, c] = activity
        x[REPEAT_IDLE, c] = idle
        x[REPEAT_REPEATS, c] = repeats


@kernel
def leave_out(x: F32, off: int) -> None:
    """Zeroes the features of the parts that an ablation leaves out and that are not 0 without their source."""
    if off & TRANSITIONS:
        x[TRANSITION : TRANSITION_SHORT + 1] = 0
    if off & CO_INTERACTION:
        x[CO : CO_LAST_SHORT + 1] = 0
        x[CO_SITTING] = 0
    if off & POPULAR:
        x[POPULARITY:IDLE] = 0
    if off & HOURS:
        x[HOUR : WEEK + 1] = 0
        x[ITEM_HOUR] = 0
