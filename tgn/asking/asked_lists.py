"""Lists that are asked for: what the model would list, for whom and of what it is asked, with nothing written to it.

A user's list comes of the same kernel as the published one; what it writes to the user goes into scratch arrays.
A session, a basket and anybody are a user with a row of their own: a ring made of the items given, a memory recalled
from the memories of those items, no trained vector. What may be listed is a mask in the place of `Items.alive`, so that
candidates are gathered under it and a list is full wherever enough items pass.
"""

from collections.abc import Collection, Iterable, Sequence
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from tgn.candidate_pool import TOGETHER
from tgn.compiling.addresses import Place
from tgn.config import KernelConfig, ModelConfig, Request, kernel_config
from tgn.graph import DELETED, F32, I16, I32, I64, LISTED, NONE, Graph, Heads, Newest, Users, new_users, no_contexts
from tgn.memory import Memories, Memory, new_memory, recall
from tgn.model import Model, new_lists, new_scratch, outcome_arrays
from tgn.node_index import Names
from tgn.outside_vectors import SIZE, Trained, Vectors, cosines, new_vectors
from tgn.prequential import ModelArrays, Outcome, Scratch, query, relist
from tgn.selection import ALL_SCORED, Allowed, masked, passing, roomy, share, widened
from tgn.top_k import top_k

SMALL_SHARE = 0.5  # where a selection lets a smaller share pass, the popular and the newest items are those under it


class Ring(NamedTuple):
    """N interactions of somebody without an index, in order."""

    item: I32  # [N] node index
    t: I64  # [N] epoch ms
    weight: F32  # [N]


class Odds(NamedTuple):
    """Where an item stands among the candidates of somebody."""

    place: int  # from 1; 0: it is no candidate
    score: float
    candidates: int
    chance: float  # the softmax of the scores gives it


class _AskerArrays(NamedTuple):
    """Users as the kernel takes them: all, or one of a row of their own."""

    users: Users
    memories: Memories
    trained: Trained


class AskedLists:
    """Makes lists of a model for whoever asks. Its scratch arrays are its own, so the model is only read."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._config = kernel_config(model.config)
        self._of: tuple[int, str] = (0, "")
        self._scratch: Scratch
        self._listed, self._dirty = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        self._context = no_contexts(0)
        self._no_vector = new_vectors(1)
        self._places = Place(), Place(), Place()
        self._users: tuple[Users, Users] | None = None  # all of the model's, and with scratch arrays in place of some
        self._whole: tuple[tuple[Any, ...], ModelArrays] | None = None  # what all may be listed of, and of what it is

    def of_users(
        self,
        askers: Sequence[tuple[int, I16 | None]],
        now: int,
        k: int,
        exclude_seen: bool,
        allowed: Allowed | None = None,
    ) -> Outcome:
        """The published lists of users at `now` (epoch ms), as if nothing but their contexts were others.

        Args:
            askers: users, each with [SLOTS] rows of Contexts in place of those that the user is in, −1: as it is;
                None: all as they are.
            allowed: what may be listed; None: what the model lists by default.
        """
        outcome: Outcome
        outcome, into = outcome_arrays(len(askers), k, False, True).new()
        users = np.array([user for user, _ in askers], np.int32)
        first = 0
        while first < len(askers):  # a user in two contexts is asked twice
            end = first + _distinct(users[first:])
            asker = self._askers(askers[first:end])
            whole = end - first == len(askers)
            part: Any = into if whole else Outcome(*(_rows(array, first, end) for array in outcome))
            self._fill(part, users[first:end], asker, now, exclude_seen, allowed)
            first = end
        return outcome

    def of_ring(
        self, ring: Ring, now: int, k: int, allowed: Allowed | None = None, context: I16 | None = None
    ) -> Outcome:
        """The list of somebody with these last interactions and no other trace; without any: of anybody."""
        outcome: Outcome
        outcome, into = outcome_arrays(1, k, False, True).new()
        self._fill(into, np.zeros(1, np.int32), self._nobody(ring, context), now, False, allowed)
        return outcome

    def odds(self, user: int, item: int, now: int, exclude_seen: bool, *, forced: bool = False) -> Odds:
        """Where an item stands for a user at `now`.

        forced: it is a candidate in any case, though it may not be listed, but where `exclude_seen` leaves it out.
        """
        return self._odds(self._askers([(user, None)]), user, item, now, exclude_seen, None, forced)

    def odds_without(
        self, user: int, item: int, now: int, taken_out: Iterable[Collection[int]], exclude_seen: bool
    ) -> list[Odds]:
        """The same where the user's ring does not have some interactions; all else is as it is.

        taken_out: each time other ones, as how many interactions ago, 0: the last one.
        """
        allowed = None
        if exclude_seen:
            self.odds(user, item, now, exclude_seen)
            pool = self._scratch.pool
            left_out = (pool.stamp == pool.query[0]) & (pool.place < 0)
            allowed = Allowed(np.where(left_out, DELETED, self._model.graph.items.alive).astype(np.uint8), False)
        return [
            self._odds(self._without(user, backs), 0, item, now, exclude_seen=False, allowed=allowed)
            for backs in taken_out
        ]

    def _odds(
        self,
        asker: _AskerArrays,
        row: int,
        item: int,
        now: int,
        exclude_seen: bool,
        allowed: Allowed | None,
        forced: bool = False,
    ) -> Odds:
        model, scratch = self._model, self._scratch_now()
        arrays, config = self._arrays(asker, allowed)
        if forced:
            arrays = arrays._replace(graph=_with_candidate(arrays.graph, item))
        node: Any = np.int32(row)  # the types that `Model.ranking` gives it: one compilation
        t: Any = np.int64(now)
        request = Request(node, t, exclude_seen, False, self._known_items())
        arrays, held, config = self._held(arrays, scratch, config)
        query(arrays, held, config, request, new_lists(1, 1), 0)
        pool, size = scratch.pool, int(scratch.pool.sizes[TOGETHER])
        score = scratch.act.score[:size]
        if pool.stamp[item] != pool.query[0] or pool.place[item] < 0:
            return Odds(0, -np.inf, size, 0.0)
        mine = score[pool.place[item]]
        tied = pool.item[:size][score == mine].tolist()
        place = int((score > mine).sum()) + sorted(tied, key=lambda z: model.items.ids[z].encode()).index(item) + 1
        share = np.exp((score - score.max()).astype(np.float64))
        return Odds(place, float(mine), size, float(share[pool.place[item]] / share.sum()))

    def _fill(
        self, outcome: Outcome, rows: I32, asker: _AskerArrays, now: int, exclude_seen: bool, allowed: Allowed | None
    ) -> None:
        """Writes the lists of rows [N] of the asker's users."""
        arrays, config = self._arrays(asker, allowed)
        t: Any = np.int64(now)
        arrays, scratch, config = self._held(arrays, self._scratch_now(), config)
        relist(arrays, scratch, config, self._known_items(), rows, t, exclude_seen, outcome)

    def _held(self, *given: Any) -> Any:
        """State, scratch space and constants as kernels take them."""
        return [place.hold(value) for place, value in zip(self._places, given, strict=True)]

    def _arrays(self, asker: _AskerArrays, allowed: Allowed | None) -> tuple[ModelArrays, KernelConfig]:
        arrays, config = self._model.arrays(), self._config
        parts = (*arrays, *asker)
        if allowed is None and self._whole is not None and all(map(is_, parts, self._whole[0])):
            return self._whole[1], config  # the same tuple lies there already
        graph = arrays.graph._replace(users=asker.users)
        if allowed is not None:
            graph, config = under(graph, config, allowed)
        arrays = arrays._replace(graph=graph, memories=asker.memories, trained=asker.trained)
        if allowed is None:
            self._whole = parts, arrays
        return arrays, config

    def _known_items(self) -> int:
        """How many items have a row; those that come with the events being taken have none yet."""
        return min(len(self._model.items), len(self._model.graph.items.events))

    def _askers(self, askers: Sequence[tuple[int, I16 | None]]) -> _AskerArrays:
        """All users, scratch arrays in place of what is written, with the contexts of a few."""
        model, users = self._model, self._model.graph.users
        room = len(users.events)
        if len(self._listed) < room:
            self._listed, self._dirty = np.zeros(room, np.int64), np.zeros(room, np.uint8)  # taken as it is written
            self._context = np.empty_like(users.context)
            self._users = None
        for user, context in askers:
            self._context[user] = users.context[user] if context is None else _over(users.context[user], context)
        if self._users is None or self._users[0] is not users:
            mine = users._replace(list_digest=self._listed, dirty=self._dirty, context=self._context)
            self._users = users, mine
        return _AskerArrays(self._users[1], model.memories, model.trained)

    def _without(self, user: int, backs: Collection[int]) -> _AskerArrays:
        """A user in a row of its own, some interactions taken out of the ring. Other indices have the pairs seen."""
        model, row = self._model, slice(user, user + 1)
        own: Any = (array[row].copy() for array in model.graph.users)
        users = Users(*own)
        _take_out(users, backs)
        trained = model.trained
        if len(trained.user.dirty):
            trained = trained._replace(user=trained.user._replace(vector=trained.user.vector[row]))
        memory: Any = (array[row] for array in model.memories.user)
        return _AskerArrays(users, model.memories._replace(user=Memory(*memory)), trained)

    def _nobody(self, ring: Ring, context: I16 | None) -> _AskerArrays:
        model, config = self._model, self._model.config
        users = new_users(config, 1)
        if context is not None:
            users.context[0] = context
        _fill_ring(users, ring, model.graph.items.events)
        memories = model.memories._replace(user=new_memory(config, 1))
        liked = ring.weight > 0
        if liked.any():
            rows = np.zeros(int(liked.sum()), np.int32)
            recall(
                memories, np.ones(1, np.uint8), rows, ring.item[liked], ring.t[liked],
                self._config.memory_scale_ms, self._config.seed,
            )  # fmt: skip
        trained = model.trained
        if len(trained.item.dirty):
            trained = trained._replace(user=self._no_vector)
        return _AskerArrays(users, memories, trained)

    def _scratch_now(self) -> Scratch:
        """Room for every source, or for all of a selection, over the items that there are."""
        model = self._model
        of = len(model.graph.items.events), model.trained_version
        if self._of != of:
            self._scratch = new_scratch(roomy(model.config), of[0])
            self._of = of
        return self._scratch


def cosines_to(config: ModelConfig, vectors: Vectors, item: int, items: I32) -> F32:
    """[N] cosines of the vectors of items [N] with that of one; 0 where either has none."""
    of_one = new_users(config, 1)
    of_one.ring_item[0, 0], of_one.events[0] = item, 1
    out, unused = np.empty(len(items), np.float32), np.empty(len(items), np.float32)
    row: Any = np.int32(0)  # the type that `content_features` gives it: one compilation
    cosines(vectors, of_one, row, items, out, unused, len(items), np.zeros(SIZE, np.float32))
    return out


def first_by_id(nodes: I32, wanted: int, names: Names) -> list[int]:
    """The first of nodes [N] by the UTF-8 bytes of their ids, in order."""
    wanted = min(wanted, len(nodes))
    out, scores = np.empty(wanted, np.int32), np.empty(wanted, np.float32)
    if wanted:
        top_k(np.ascontiguousarray(nodes), np.zeros(len(nodes), np.float32), len(nodes), names, out, scores)
    return [int(node) for node in out]


def under(graph: Graph, config: KernelConfig, allowed: Allowed) -> tuple[Graph, KernelConfig]:
    """The graph and the constants with which candidates are gathered under a mask.

    Of a selection all that pass are candidates where they are few. Where they are many, the popular and the newest
    items are those that pass, and as many more are retrieved as it takes for as many to pass.
    """
    found = masked(graph, allowed)
    if not allowed.selected:
        return found, config
    chosen = passing(graph, allowed)
    config = widened(graph, config, len(chosen))
    if len(chosen) <= ALL_SCORED or share(graph, len(chosen)) >= SMALL_SHARE:
        return found, config
    return found._replace(heads=_heads(graph, chosen, config), newest=_newest(graph, chosen)), config


def _heads(graph: Graph, chosen: I32, config: KernelConfig) -> Heads:
    """The most popular of the items that pass, per time scale; in no order, and without their keys."""
    n = graph.heads.item.shape[1]
    items, best = graph.items, np.empty_like(graph.heads.item)
    for scale, tau in enumerate(config.scales.popularity):
        key = items.log_popularity[chosen, scale] + items.last_time[chosen] / tau
        best[scale] = chosen[np.argpartition(key, -n)[-n:]]
    return graph.heads._replace(item=best, size=np.full(len(best), n, np.int32))


def _newest(graph: Graph, chosen: I32) -> Newest:
    n = len(graph.newest.item)
    return graph.newest._replace(item=chosen[np.argpartition(graph.items.first_time[chosen], -n)[-n:]])


def _with_candidate(graph: Graph, item: int) -> Graph:
    """The graph, an item among the most popular ones and listed."""
    alive, head, size = graph.items.alive.copy(), graph.heads.item.copy(), graph.heads.size.copy()
    alive[item], head[0, 0], size[0] = LISTED, item, max(size[0], 1)
    return graph._replace(items=graph.items._replace(alive=alive), heads=graph.heads._replace(item=head, size=size))


def _distinct(users: I32) -> int:
    """How many users there are before one comes again."""
    seen: set[int] = set()
    for user in users.tolist():
        if user in seen:
            break
        seen.add(user)
    return len(seen)


def _rows(part: Any, first: int, end: int) -> Any:
    """Rows first … end of an array, or of each of a tuple of arrays; those without a row stay."""
    if isinstance(part, tuple):
        return type(part)(*(_rows(array, first, end) for array in part))
    return part[first:end] if len(part) else part


def _over(context: I16, given: I16) -> I16:
    """What is given, and what was there where nothing is."""
    return np.where(given == NONE, context, given).astype(np.int16)


def _fill_ring(users: Users, ring: Ring, item_events: I32) -> None:
    """Writes the interactions into the one row of `users`, each as the last one with its item so far."""
    size, count = users.ring_item.shape[1], len(ring.item)
    held = np.arange(count)[-size:]
    place = held % size
    users.ring_item[0, place], users.ring_time[0, place] = ring.item[held], ring.t[held]
    users.ring_weight[0, place], users.ring_count[0, place] = ring.weight[held], item_events[ring.item[held]]
    users.events[0] = count
    last: dict[int, int] = {}
    for n, item in enumerate(ring.item.tolist()):
        users.repeats[0] += n - last.get(item, -size - 1) <= size
        last[item] = n


def _take_out(users: Users, backs: Collection[int]) -> None:
    """Takes interactions out of the ring of the one row. Where it is full its oldest entry stands more than once."""
    size, count = users.ring_item.shape[1], int(users.events[0])
    held = min(count, size)
    kept = [(count - 1 - back) % size for back in range(held) if back not in backs]
    if count > size and kept:
        kept += [kept[-1]] * (held - len(kept))
    else:
        count = len(kept)
    places = [(count - 1 - back) % size for back in range(len(kept))]
    for array in (users.ring_item, users.ring_time, users.ring_weight, users.ring_count):
        array[0, places] = array[0, kept]
    users.events[0] = count
