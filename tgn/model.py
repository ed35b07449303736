"""The model: graph, ranker and ids as one value that takes batches of interactions.

What happens to one interaction stands on a page, `tgn.reference`: read that first.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tgn.candidate_pool import TOGETHER, new_pool
from tgn.compiling.addresses import CallArrays, CallColumn, Place
from tgn.compiling.growing import enough
from tgn.config import KernelConfig, ModelConfig, Request, kernel_config
from tgn.context_embedding import new_contexts
from tgn.graph import (
    F32,
    I16,
    I32,
    I64,
    NONE,
    SLOTS,
    U8,
    Graph,
    new_graph,
    new_items,
    new_rows,
    new_users,
    no_contexts,
    with_room,
)  # fmt: skip
from tgn.item_embedding import grown_embeddings, new_embeddings, new_popularity_weights, new_taste
from tgn.kernel import plain
from tgn.memory import Memories, grown_memory, new_memory, recall
from tgn.node_index import NodeIndex
from tgn.observe import delete_item, hide_item, introduce, show_item
from tgn.outside_vectors import SIZE, Trained, describe, grown_vectors, new_vectors, new_waiting, wait
from tgn.prequential import (
    InteractionBatch,
    Lists,
    ModelArrays,
    Outcome,
    Scratch,
    observe_batch,
    prequential,
    query,
    relist,
)
from tgn.ranker import new_activations, new_ranker
from tgn.reasons import Evidence
from tgn.repair import (
    History,
    Nearby,
    Pair,
    Part,
    add_pairs,
    near,
    new_part,
    next_batch,
    observe_again,
    put_in,
    readers,
    rebuild_items,
    settle,
)
from tgn.retrieval import grown_active, new_active, restore
from tgn.seen_pairs import grown_pairs
from tgn.selection import Allowed, masked, passing, roomy, widened

SLICE = 8  # interactions of one call of the kernel where somebody waits for it: some 2 ms
NO_VECTOR = np.zeros(SIZE, np.float32)
RECALLED = 500_000  # of a user's last interactions, how many a memory is made anew of: under 0.2 s


class Places:
    """Where what a model gives to kernels is laid out for them."""

    def __init__(self) -> None:
        self.arrays, self.scratch, self.config = Place(), Place(), Place()
        self.listing, self.roomy, self.widened = Place(), Place(), Place()  # under a mask


class Model:
    """A continuous-time temporal graph with a ranker that learns test-then-train."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.users = NodeIndex()
        self.items = NodeIndex()
        self.graph = new_graph(config)
        self.embeddings = new_embeddings(config, 1024)
        self.popularity = new_popularity_weights(config)
        self.contexts = new_contexts(config)
        self.memories = Memories(new_memory(config, 1024), new_memory(config, 1024))
        self.content = new_vectors(1024)
        self.waiting = new_waiting(config)
        self.trained = Trained(new_vectors(0), new_vectors(0))
        self.trained_version = ""  # which embeddings those are; none
        self.active = new_active(config, 1024)
        self.ranker = new_ranker(config)
        self.events = 0  # taken since the stream began
        self.saved_rows: dict[bytes, np.ndarray] = {}  # group → [rows] bool: which have a page, see tgn.serialization
        self._scratch = new_scratch(config, 1024)
        self._roomy: Scratch | None = None  # with room for all of a selection
        self._config = kernel_config(config)
        self._places = Places()

    def take(
        self,
        user: I32,
        item: I32,
        t: I64,
        weight: F32,
        context: I16 | None = None,
        *,
        k: int,
        score: U8,
        learn: U8,
        publish: U8,
        block: I64 | None = None,
        exclude_seen: bool = False,
        request_context: bool = False,
        between: Callable[[], None] | None = None,
        allowed: Allowed | None = None,
        sources: bool = False,
    ) -> Outcome:
        """Takes N interactions in order: score → learn → observe, event by event.

        user, item: node indices from `users.encode`, `items.encode`; t: epoch ms; weight: of the event types;
        context: [N, SLOTS] rows of Contexts, −1: none, as by default; score, learn, publish: 1 where the test list is
        wanted, learned from, the published list wanted; block: see InteractionBatch, every event is its own by default;
        request_context: see `prequential`; between: called first and after every SLICE interactions, where each is a
        block of its own; it may read the model; allowed: what may be listed, of as many items as there is room for now;
        sources: whether the sources of the test lists are wanted.
        """
        n = len(user)
        context = no_contexts(n) if context is None else context
        self.make_room(n)
        arrays, listing, scratch, config = self._held(allowed)
        out: Outcome
        test = bool(score.any())
        out, into = outcome_arrays(n, k, test, bool(publish.any()), sources and test).new()
        columns, batch = _batch_arrays(n).new()
        given = user, item, t, weight, context, score, learn, publish, np.arange(n) if block is None else block
        for column, values in zip(columns, given, strict=True):
            column[...] = values
        size = SLICE if between else max(n, 1)
        if between:
            between()
        for first in range(0, max(n, 1), size):
            prequential(
                arrays, listing, scratch, config, len(self.items), batch, first, min(first + size, n), exclude_seen,
                request_context, into,
            )  # fmt: skip
            if between:
                between()
        self.events += n
        return out

    def observe(self, user: I32, item: I32, t: I64, weight: F32, context: I16) -> None:
        """Takes N interactions into the graph, without a list and with nothing learned; see `take`."""
        n = len(user)
        self.make_room(n)
        columns, batch = _batch_arrays(n).new()
        for column, values in zip(columns[:5], (user, item, t, weight, context), strict=True):
            column[...] = values
        observe_batch(self.held_arrays(), self._places.config.hold(self._config), batch, n)
        self.events += n

    def recommend(self, user: int, now: int, k: int, exclude_seen: bool = False) -> list[int]:
        """The list of `user` at `now` (epoch ms), best first. Pure."""
        return self.ranking(user, now, k, exclude_seen)[0]

    def ranking(self, user: int, now: int, k: int, exclude_seen: bool = False) -> tuple[list[int], list[float]]:
        """The same with the scores; items that were no candidates follow, with scores below every candidate's. Pure."""
        self.make_room(0)
        lists = new_lists(1, k)
        node: Any = np.int32(user)  # the types that `prequential` gives it: one compilation
        t: Any = np.int64(now)
        request = Request(node, t, exclude_seen, False, len(self.items))
        arrays, _, scratch, config = self._held(None)
        query(arrays, scratch, config, request, lists, 0)
        size = int(lists.size[0])
        return lists.item[0, :size].tolist(), lists.score[0, :size].tolist()

    def ring_places(self, user: int) -> list[int]:
        """Where the user's ring holds the last interaction, the one before, and so on."""
        events = self.graph.users.events
        count, ring = int(events[user]) if user < len(events) else 0, self.config.ring
        return [(count - 1 - back) % ring for back in range(min(count, ring))]

    def candidates(self) -> int:
        """How many candidates the last list was chosen from."""
        return int(self._scratch.pool.sizes[TOGETHER])

    def relist(self, user: I32, t: int, k: int, exclude_seen: bool = False, allowed: Allowed | None = None) -> Outcome:
        """Published lists of users [N] at time t (epoch ms) with no interaction; the rest of the outcome is empty.

        allowed: see `take`.
        """
        self.make_room(0)
        out: Outcome
        out, into = outcome_arrays(len(user), k, False, True).new()
        now: Any = np.int64(t)
        [users] = plain(user)
        _, listing, scratch, config = self._held(allowed)
        relist(listing, scratch, config, len(self.items), users, now, exclude_seen, into)
        return out

    def _held(self, allowed: Allowed | None) -> tuple[ModelArrays, ModelArrays, Scratch, KernelConfig]:
        """The state, and what lists are made of, into what, and by which constants: as kernels take them."""
        arrays, place = self.held_arrays(), self._places
        if allowed is None:
            return arrays, arrays, place.scratch.hold(self._scratch), place.config.hold(self._config)
        listing, scratch, config = self._listing(allowed)
        return arrays, place.listing.hold(listing), place.roomy.hold(scratch), place.widened.hold(config)

    def _listing(self, allowed: Allowed) -> tuple[ModelArrays, Scratch, KernelConfig]:
        """What candidates are gathered from under a mask, into what, and by which constants.

        The popular and the newest items are those of all: masked ones would not follow what is being taken.
        """
        if self._roomy is None:
            self._roomy = new_scratch(roomy(self.config), len(self.graph.items.events))
        config = self._config
        if allowed.selected:
            config = widened(self.graph, config, len(passing(self.graph, allowed)))
        return self.arrays()._replace(graph=masked(self.graph, allowed)), self._roomy, config

    def readers(self, wanted: U8) -> I32:
        """The users whose interactions `rebuild_items` has to read; see `tgn.repair.rebuild_items`."""
        self.make_room(0)
        return readers(self.graph, wanted)

    def settle(self, changed: I32, removed: Pair, wanted: U8, history: History) -> None:
        """Makes users, their memories too, follow their interactions; see `tgn.repair.settle`."""
        self.make_room(0)
        history = History(*plain(*history))
        settle(self.graph, self.config, changed, removed, wanted, history)
        anew = np.zeros(len(self.graph.users.events), np.uint8)
        anew[changed] = 1
        liked = (history.weight > 0) & _among_last(history.user, changed, RECALLED)
        user, item, t = history.user[liked], history.item[liked], history.t[liked]
        recall(self.memories, anew, user, item, t, self._config.memory_scale_ms, self._config.seed)

    def add_pairs(self, user: I32, item: I32) -> None:
        """Notes that users [N] have touched items [N], which they have not been observed to do; `settle` follows."""
        self.make_room(len(user))
        add_pairs(self.graph.pairs, user, item)

    def rebuild_items(self, wanted: U8, history: History) -> None:
        """Builds items again from the interactions with them; see `tgn.repair.rebuild_items`."""
        self.make_room(0)
        self._rebuilt(rebuild_items(self.graph, self.config, wanted, History(*plain(*history))))

    def new_part(self, items: I32, introduced: I64) -> Part:
        """What `observe_again` builds items [B] again in; see `tgn.repair.new_part`."""
        return new_part(self.config, items, introduced)

    def near(self, user: I32, item: I32, wanted: U8) -> tuple[I64, I32]:
        """Which interactions a rebuild of the `wanted` items observes again; see `tgn.repair.near`."""
        return near(user, item, wanted, self.config.window)

    def observe_again(self, part: Part, nearby: Nearby, order: I64) -> None:
        """Goes on with what `rebuild_items` does at once; see `tgn.repair.observe_again`."""
        observe_again(self.graph, self.config, part, nearby, order)

    def put_in(self, part: Part) -> None:
        """Ends it: the part takes its place in the graph."""
        self._rebuilt(put_in(self.graph, self.config, part))

    def _rebuilt(self, graph: Graph) -> None:
        self.graph = graph
        restore(self.active, self.graph.items, self.embeddings, self._longest_ms())

    def repair(self, changed: I32, removed: Pair, wanted: U8, history: History) -> None:
        """Builds again all that depends on interactions that were taken back or moved: `settle` and `rebuild_items`.

        wanted: [I] 1 for every item of those, every item within `config.window` of a change, and every item in the last
        `config.ring` interactions of a changed user; history: all interactions, as they should have been, of the
        changed users and of `readers(wanted)`, in the order of all of them.
        """
        self.settle(changed, removed, wanted, history)
        self.rebuild_items(wanted, history)

    def next_to_rebuild(self, wanted: U8, first: int, cost: I64, most: int) -> tuple[I32, I32]:
        """The next items to build again together, and their readers; see `tgn.repair.next_batch`."""
        self.make_room(0)
        return next_batch(self.graph, wanted, first, cost, most)

    def introduce(self, item: int, t: int, vector: F32, hidden: bool = False) -> None:
        """Makes an item known at time t (epoch ms), or lists a deleted or hidden one again.

        vector: [SIZE], see `tgn.outside_vectors`; hidden: no list names the item until it is introduced again.
        """
        self.make_room(0)
        describe(self.content, item, vector)
        if hidden:
            hide_item(self.graph, item)
        else:
            show_item(self.graph, item, self._config.scales.popularity)
        if self.graph.items.introduced[item] < 0:
            self.graph.items.introduced[item] = t
            wait(self.waiting, item)
        if self.graph.items.first_time[item] < 0:
            introduce(self.graph, item, t)

    def describe_user(self, user: int, attributes: I16) -> None:
        """Makes [SLOTS] rows of Contexts, −1: none, the attributes of a user."""
        self.make_room(0)
        self.graph.users.attribute[user] = attributes
        self.graph.users.dirty[user] = 1

    def delete(self, item: int) -> None:
        """No list names the item from now on, and nothing is known of it."""
        self.make_room(0)
        delete_item(self.graph, item)
        describe(self.content, item, NO_VECTOR)
        if len(self.trained.item.dirty):
            describe(self.trained.item, item, NO_VECTOR)

    def set_outside_vectors(
        self, version: str, users: Sequence[int], of_users: F32, items: Sequence[int], of_items: F32
    ) -> None:
        """Takes the vectors [U, SIZE], [I, SIZE], each of length 1, of a trained version in place of those it had.

        Nodes that are not among `users`, `items` have none. The version "" has no vectors: the features are 0 again.
        """
        self.make_room(0)
        count = len(self.graph.users.events), len(self.graph.items.events)
        self.trained, self.trained_version = Trained(*(new_vectors(nodes) for nodes in count)), version
        for vectors, nodes, of_nodes in zip(self.trained, (users, items), (of_users, of_items), strict=True):
            vectors.dirty[:] = 1
            describe(vectors, nodes, of_nodes)
        self._renew_pool()  # forgets the features of the last one

    def forget_user(self, user: int) -> None:
        """Nothing is known of the user but the interactions; those are `repair`'s."""
        self.describe_user(user, np.full(SLOTS, NONE, np.int16))
        if len(self.trained.user.dirty):
            describe(self.trained.user, user, NO_VECTOR)
        self.users.forget(user)

    def forget_published(self, users: I32) -> None:
        """What is published of these users is not known: the next list of each counts as another one."""
        self.graph.users.list_digest[users] = 0
        self.graph.users.dirty[users] = 1

    def refresh(self) -> None:
        """Makes what follows from the state fit it, after a checkpoint was loaded."""
        self._renew_pool()
        self.active = grown_active(self.active, len(self.graph.items.events))
        restore(self.active, self.graph.items, self.embeddings, self._longest_ms())

    def held_arrays(self) -> Any:
        """The same as `arrays`, as kernels are called with it."""
        return self._places.arrays.hold(self.arrays())

    def arrays(self) -> ModelArrays:
        """All of the state, as the kernels take it."""
        return ModelArrays(
            self.graph, self.embeddings, self.popularity, self.contexts, self.memories, self.content, self.waiting,
            self.trained, self.active, self.ranker, self.items.names,
        )  # fmt: skip

    def _longest_ms(self) -> float:
        """The longest time scale of popularity."""
        return float(self._config.scales.popularity[-1])

    def _renew_pool(self) -> None:
        self._scratch = self._scratch._replace(pool=new_pool(self.config, len(self.graph.items.events)))
        self._roomy = None

    def make_room(self, events: int) -> None:
        """Room in every array for the nodes that have an index, and for so many more pairs."""
        self.graph = _grown(self.graph, self.config, len(self.users), len(self.items), events)
        users, room = len(self.graph.users.events), len(self.graph.items.events)
        if len(self.memories.user.norm) < users:
            self.memories = self.memories._replace(user=grown_memory(self.memories.user, self.config, users))
        if len(self.memories.item.norm) < room:
            self.memories = self.memories._replace(item=grown_memory(self.memories.item, self.config, room))
        if 0 < len(self.trained.user.dirty) < users:
            self.trained = self.trained._replace(user=grown_vectors(self.trained.user, users))
        if 0 < len(self.trained.item.dirty) < room:
            self.trained = self.trained._replace(item=grown_vectors(self.trained.item, room))
        if len(self._scratch.pool.stamp) < room:
            self.embeddings = grown_embeddings(self.embeddings, self.config, room)
            self.content = grown_vectors(self.content, room)
            self.active = grown_active(self.active, room)
            self._renew_pool()


def _among_last(user: I32, of: I32, most: int) -> Any:
    """[N] False for those users' interactions that have `most` of the same user behind them."""
    last = np.ones(len(user), bool)
    if len(user) > most:
        for busy in of[np.bincount(user, minlength=int(of.max()) + 1)[of] > most].tolist():
            last[np.flatnonzero(user == busy)[:-most]] = False
    return last


def new_scratch(config: ModelConfig, items: int) -> Scratch:
    """Scratch arrays of one query over so many items."""
    pool = new_pool(config, items)
    candidates = len(pool.item)
    return Scratch(pool, new_taste(config, candidates), new_activations(config, candidates))


def new_lists(rows: int, k: int) -> Lists:
    """Room for so many lists of k items."""
    return Lists(np.full((rows, k), -1, np.int32), np.zeros((rows, k), np.float32), np.zeros(rows, np.int32))


@lru_cache(maxsize=1024)
def outcome_arrays(n: int, k: int, test: bool, published: bool, sources: bool = False) -> CallArrays:
    """Makes outcomes, for kernels to write into."""
    of: Any = CallColumn
    rows = n if published else 0
    source = of(np.uint8, (n if sources else 0, k))
    evidence = Evidence(of(np.uint8, (rows, k)), of(np.int32, (rows, k), -1))
    changed, rank = of(np.uint8, (n,)), of(np.int32, (n,), -1)
    popularity_rank, surprise = of(np.int32, (n,)), of(np.float32, (n,))
    test_lists, lists = _lists_of(n if test else 0, k), _lists_of(rows, k)
    return CallArrays(Outcome(test_lists, source, lists, evidence, changed, rank, popularity_rank, surprise))


def _lists_of(rows: int, k: int) -> Lists:
    of: Any = CallColumn
    return Lists(of(np.int32, (rows, k), -1), of(np.float32, (rows, k)), of(np.int32, (rows,)))


@lru_cache(maxsize=1024)
def _batch_arrays(n: int) -> CallArrays:
    columns: Any = [CallColumn(dtype, (n,)) for dtype in (np.int32, np.int32, np.int64, np.float32)]
    columns += [CallColumn(np.int16, (n, SLOTS)), *[CallColumn(np.uint8, (n,))] * 3, CallColumn(np.int64, (n,))]
    return CallArrays(InteractionBatch(*columns))


def _grown(graph: Graph, config: ModelConfig, users: int, items: int, events: int) -> Graph:
    """The same graph with room for `users` and `items` nodes and `events` more pairs."""
    if users > len(graph.users.events):
        size = enough(graph.users.events, users)
        graph = graph._replace(users=with_room(graph.users, new_users(config, 1), size))
    if items > len(graph.items.events):
        size, row = enough(graph.items.events, items), new_rows(config, 1)
        graph = graph._replace(
            items=with_room(graph.items, new_items(config, 1), size),
            transitions=with_room(graph.transitions, row, size),
            co=with_room(graph.co, row, size),
        )
    pairs = grown_pairs(graph.pairs, events)
    return graph if pairs is graph.pairs else graph._replace(pairs=pairs)
