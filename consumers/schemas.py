"""What the values of the topics look like. Ids are strings from the door on; times are int64 epoch milliseconds.

Evolution: a new field has a default; nothing is renamed, retyped or reused; old records decode for ever.
"""

from typing import Any

import msgspec

CONTEXT_NAMES = ("device", "geo", "os", "country", "referrer", "region")
"""What of an interaction's context is learned from."""


class Interaction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one user did with one item. Record key: `user_id`."""

    user_id: str
    item_id: str
    event_type: str
    timestamp: int
    event_id: str | None = None
    value: float | None = None
    session_id: str | None = None
    context: dict[str, Any] | None = None
    retract: bool = False


class Merge(msgspec.Struct, frozen=True):
    """Says that a session was the user's all the time. On the topic of interactions; record key: `user_id`.

    `merge`: the id under which the session's interactions lie. Once those before the offsets of `upto`, by partition,
    have been taken, all of them are the user's, each in its place, and those that come later are too.
    """

    user_id: str
    merge: str
    upto: dict[str, int]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes of an item. Record key: `item_id`; a tombstone deletes the item.

    A `hidden` item is in no list and keeps its history; its next record without `hidden` brings it back. It is in no
    list before `available_from` and from `expires_at` on either, by the stream's clock.
    """

    item_id: str
    title: str | None = None
    categories: tuple[str, ...] = ()
    timestamp: int | None = None
    attributes: dict[str, Any] | None = None
    hidden: bool = False
    available_from: int | None = None
    expires_at: int | None = None


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes of a user. Record key: `user_id`; a tombstone erases the user."""

    user_id: str
    timestamp: int | None = None
    attributes: dict[str, Any] | None = None


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a list: an impression, or an outcome such as a click. Record key: `user_id`, as the list's.

    `list_id`: the list, published or asked; `item_id`: of one place of it, None: of the whole. `event`: any word, such
    as impression, click, purchase; `value`: what it was worth or how long it took. `user_id` is "" for the list of a
    session, a basket or anybody. The same `event_id` of the same user counts once.
    """

    list_id: str
    event: str
    timestamp: int
    user_id: str = ""
    item_id: str | None = None
    value: float | None = None
    event_id: str | None = None


class ListedItem(msgspec.Struct, frozen=True, gc=False):
    """One place of a list. `source`: repeat, transition, co-interaction, taste, popular, new or pinned; `propensity` is
    the probability with which exploration put the item here (1 without exploration)."""

    item_id: str
    score: float
    source: str
    reason: str
    propensity: float = 1.0


class AsOf(msgspec.Struct, frozen=True, gc=False):
    """What a list knew: the event time it was made at and, by partition, the next offset of `interactions`."""

    timestamp: int
    positions: dict[str, int]


class RecommendationList(msgspec.Struct, frozen=True, gc=False):
    """The newest list of a user, best item first. Record key: `user_id`; a tombstone withdraws the list.

    `list_id` is `<partition>-<offset>` of the interaction that caused it. `fallback` names what the list was made
    from where the user's own history gave nothing: similar-items, cohort, popular or new; None: it was enough.
    `cut`: how many items, the last ones, were left out because the topic takes no larger record; a record whose list
    is whole does not have it. `rules`: the version of the rules that made it; a record of a surface without rules does
    not have it. `experiment`: `name`, the user's `arm`, and the `group` where they are dealt with others; a record of a
    user who has no part in one does not have it.
    """

    list_id: str
    user_id: str
    surface: str
    items: tuple[ListedItem, ...]
    as_of: AsOf
    model_version: str
    fallback: str | None = None
    cut: int = 0
    rules: str | None = None
    experiment: dict[str, str] | None = None


class EpochManifest(msgspec.Struct, frozen=True):
    """One committed epoch: which records were taken together. `ends`: partition → next offset, per input topic.

    `refused`: partition → offsets of interactions that lay in the future by the wall clock of the moment. It is the
    one thing about a record that the log does not know, so the manifest does; and that a merge came to a worker that
    does not have the session's partition, and that a record's schema was not known: of items and users under
    `topic/partition`. `knows_schemas`: whether such are named; before, records of a schema registry were all refused.
    `repaired`: at its end the graph followed
    what was taken back or came late: a piece of it, of the size `repair_size`; 0: all of it. `erased`: digest of each
    user whom this epoch erased → partition → the offset of `interactions` before which nothing of that user counts any
    more. `worker`: whose epoch it is; each counts its own.
    `adopted`: records that another worker had taken and listed, taken into this one's state. `released`: partitions
    that went to another worker before this epoch; `regained`: those that came back. `embeddings`: the version that was
    switched to before it, "" for none at all; null: the one in use stayed. `settings`: those that lists and state
    depend on, where they are others than before, from this epoch on. `erased_at`: digest → time of the erasure by the
    log's clock. Digests are keyed by a secret of the worker; without `erased_at`, by the name of the application.
    `rebuilt`: the state was made again from the epochs before, without anything that had been taken back by then.
    `sessions_erased`: digest of a user in `erased` → digests of the sessions that were merged into them.
    `now_ms`: the stream's clock, live, where it had gone on without interactions: items expired by it, and the lists of
    `aged`, users by index in this worker's state, were made anew at it. `rules`: surface → `version` and `rules`, the
    text, of those that are others from this epoch on; null in place of a surface's: it has none any more.
    `shared`: how many partitions the topic of blocks had; of those that it took records of, a block was written each.
    `observed`: partition → the first and the next offset of the blocks of other workers that it took, and the offset of
    `interactions` up to which they reach. `keeps`: what it learned was kept for steps that others add, each of so many
    interactions at least; 0: it was not. `learned`: the offsets of the steps of other workers that it added.
    """

    epoch: int
    ends: dict[str, dict[str, int]]
    events: int
    refused: dict[str, list[int]] = {}
    repaired: bool = False
    erased: dict[str, dict[str, int]] = {}
    worker: str = ""
    adopted: bool = False
    released: list[int] = []
    regained: list[int] = []
    embeddings: str | None = None
    settings: dict[str, Any] | None = None
    erased_at: dict[str, int] = {}
    rebuilt: bool = False
    repair_size: int = 0
    now_ms: int = 0
    aged: list[int] = []
    rules: dict[str, dict[str, Any] | None] | None = None
    sessions_erased: dict[str, list[str]] = {}
    shared: int = 0
    observed: dict[str, tuple[int, int, int]] = {}
    keeps: int = 0
    learned: list[int] = []
    knows_schemas: bool = False


class Quality(msgspec.Struct, frozen=True):
    """One figure of test-then-learn quality so far. Record key: `metric`.

    `value` is ours, `popularity` the same figure for decayed popularity over the same `events`.
    """

    metric: str
    value: float
    popularity: float
    events: int
    timestamp: int


DRIFT_KEY = b"drift"


class Drift(msgspec.Struct, frozen=True):
    """A drift alarm: quality fell suddenly. On the topic of `Quality`; record key: `DRIFT_KEY`.

    `before` and `after` are the means on either side of the change of `metric`: log loss, −ln P(item) in nats, where
    more is worse; `hr_before` and `hr_after` those of HR@10 over the same events. `event` counts the interactions
    records before the event at which it was noticed, `timestamp` is that event's time, and `since` counts them before
    the event with which the change began.
    """

    metric: str
    before: float
    after: float
    event: int
    timestamp: int
    since: int
    hr_before: float
    hr_after: float


CHALLENGER_KEYS = b"challenger/"


class ChallengerQuality(msgspec.Struct, frozen=True):
    """Test-then-learn quality of an experiment's challenger beside the live model. On the topic of `Quality`; record
    key: `challenger/<experiment>/<arm>/<metric>`.

    `value` is the challenger's and `live` the live model's, over the same `events` since the challenger began. `error`:
    the standard error of their difference, null where there are too few events.
    """

    experiment: str
    arm: str
    metric: str
    value: float
    live: float
    error: float | None
    events: int
    timestamp: int


FEEDBACK_KEY = b"feedback"


class CountedFeedback(msgspec.Struct, frozen=True):
    """What has become of records of feedback so far. On the topic of `Quality`; record key: `FEEDBACK_KEY`.

    `taken`: how many could be read, each once; `waiting`: how many of them wait now for the list that they quote;
    `repeated`: how many came again; `dead`: how many are dead letters. `timestamp`: the watermark.
    """

    taken: int
    waiting: int
    repeated: int
    dead: int
    timestamp: int


BUSINESS_KEYS = b"business/"


class Business(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lists bring, so far. On the topic of `Quality`; record key: `business/<surface>/<arm>/<metric>`.

    `arm` is the name of the experiment and its arm, with a colon between them, or "none". `value` is `numerator` over
    `denominator`, null where that is 0; `users`: of whom anything is counted; `units`: how many were dealt, where
    users are dealt in groups; 0: each user alone. `squares`: summed over these users, or groups, the
    square of what one adds to the numerator, its product with what it adds to the denominator, and the square of
    that. `before`: where x, y is what a user adds to numerator and denominator, and z, w what they added before their
    first list of the arm, the sums of z, w, zz, zw, ww, xz, xw, yz, yw. `by`: position, source, reason → label →
    numerator and denominator. `windows`: start, numerator, denominator, and whether nothing of it changes any more.
    `timestamp`: the watermark.
    """

    metric: str
    surface: str
    arm: str
    value: float | None
    numerator: float
    denominator: float
    users: int
    timestamp: int
    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    before: tuple[float, float, float, float, float, float, float, float, float] = (0.0,) * 9
    by: dict[str, dict[str, tuple[float, float]]] = {}
    windows: tuple[tuple[int, float, float, bool], ...] = ()
    units: int = 0

    @property
    def dealt(self) -> int:
        """How many were dealt to the arm: users, or groups of them."""
        return self.units or self.users


class SeatClaim(msgspec.Struct, frozen=True):
    """A start of a worker, on the topic of workers. Record key: `seat`. The last one of a seat has it.

    `incarnation` counts the starts; `instance` is this start's alone.
    """

    seat: str
    incarnation: int
    instance: str
    host: str = ""
    pid: int = 0


class WorkerAddress(msgspec.Struct, frozen=True):
    """Where a worker answers questions, on the topic of workers. Record key: `<application>-<seat>/address`.

    It answers for the users of `partitions`, of the `of` that the interactions topic has, and says so again every few
    seconds: one that has said nothing since is away.
    """

    seat: str
    address: str
    partitions: list[int]
    of: int
    at_ms: int
