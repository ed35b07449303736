"""The engine: interactions as columns in, lists and ranks out. The same one live and in replay."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from consumers.schemas import Item, User
from streamer.embeddings.registry import OFF, NodeVectors, read_version
from streamer.engine.compilation import ensure_compiled
from streamer.errors import EmbeddingsDamaged
from streamer.features.contexts import rows_of_attributes, rows_of_contexts, rows_of_table
from streamer.features.item_content import hash_content
from streamer.features.tables import encode_ids
from streamer.settings import Settings
from tgn.config import ModelConfig
from tgn.graph import LISTED, NONE, SLOTS
from tgn.model import NO_VECTOR, Model
from tgn.node_index import NodeIndex
from tgn.observe import hide_item
from tgn.outside_vectors import SIZE, describe
from tgn.prequential import Outcome
from tgn.selection import Allowed


class Columns(NamedTuple):
    """N interactions in the order in which they are taken."""

    user: np.ndarray  # [N] int32 node index
    item: np.ndarray  # [N] int32
    t: np.ndarray  # [N] int64 epoch ms
    weight: np.ndarray  # [N] float32
    context: np.ndarray  # [N, SLOTS] int16 rows of tgn.context_embedding.Contexts


class Selection(NamedTuple):
    """What a ranking is made of."""

    k: int
    exclude_seen: bool
    allowed: Allowed | None = None  # which items; None: all that the model lists


Differs = Mapping[str, Any]
NO_ATTRIBUTES = np.full(SLOTS, NONE, np.int16)
NOTHING = NodeVectors([], np.zeros((0, SIZE), np.float32))


class KnownVectors(NamedTuple):
    """The vectors of a version, of the nodes that a model knows."""

    users: list[int]
    of_users: np.ndarray  # [U, SIZE] each of length 1
    items: list[int]
    of_items: np.ndarray  # [I, SIZE]


def model_config(settings: Settings) -> ModelConfig:
    """The part of the settings that the model is made of."""
    return ModelConfig(
        window=settings.window,
        every_item_below=settings.every_item_below,
        without=settings.without,
        seed=settings.seed,
    )


def challenger_config(live: ModelConfig, differs: Differs) -> ModelConfig:
    """The configuration of a challenger, where the live model has this one. Raises ValueError.

    Args:
        differs: what it has otherwise, as JSON has it.
    """
    own: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in differs.items()}
    return replace(live, **own)


class Engine:
    """A model with the settings of its lists.

    Args:
        model: None: an empty one, of the settings.

    `followers` hear of items and users what this one hears, and have its nodes: see `streamer.state.challengers`. What
    they `take` they are given by themselves.
    """

    def __init__(self, settings: Settings, model: Model | None = None) -> None:
        ensure_compiled()
        self.followers: dict[str, Engine] = {}
        self.set_lists(settings)
        self.model = model or Model(model_config(settings))

    def set_lists(self, settings: Settings) -> None:
        """Makes lists as these settings say, from here on."""
        self.k = settings.k
        self.exclude_seen = settings.exclude_seen
        self.request_context = settings.request_context
        for one in self.followers.values():
            one.set_lists(settings)

    def models(self) -> list[Model]:
        """Its own, and those of its followers."""
        return [self.model, *(one.model for one in self.followers.values())]

    def encode(
        self, users: Sequence[str], items: Sequence[str], t: Sequence[int], weight: Sequence[float],
        contexts: Sequence[Mapping[str, Any] | None],
    ) -> Columns:  # fmt: skip
        """Columns of a few interactions; unknown ids become nodes, in this order."""
        return Columns(
            user=np.array(self.model.users.encode(users), np.int32),
            item=np.array(self.model.items.encode(items), np.int32),
            t=np.array(t, np.int64),
            weight=np.array(weight, np.float32),
            context=rows_of_contexts(contexts),
        )

    def encode_table(self, table: pa.Table, weight: np.ndarray) -> Columns:
        """Columns of many interactions, without a loop over them; gives the same indices as `encode`."""
        return Columns(
            user=encode_ids(self.model.users, table["user_id"]),
            item=encode_ids(self.model.items, table["item_id"]),
            t=table["timestamp"].to_numpy(),
            weight=weight,
            context=rows_of_table(table),
        )

    def introduce(self, item: Item, now_ms: int, end_ms: int | None = None) -> None:
        """Takes what a record of the items topic says: the item may be listed from its own time on, or from now.

        A hidden one is in no list, nor one that expires by `end_ms`, by default now. One that is not available yet
        counts as new only when it is: till then the model knows nothing but what it is like.
        """
        vector, node = hash_content(item), self.model.items.encode([item.item_id])[0]
        since = now_ms if item.timestamp is None else item.timestamp
        expired = item.expires_at is not None and item.expires_at <= (now_ms if end_ms is None else end_ms)
        for model in self.models():
            if item.available_from is not None and item.available_from > now_ms:
                model.make_room(0)
                describe(model.content, node, vector)
                hide_item(model.graph, node)
            else:
                model.introduce(node, max(since, item.available_from or 0), vector, item.hidden or expired)

    def delete(self, item: int) -> None:
        """Takes the tombstone of an item: no list names it from now on, and nothing is known of it."""
        for model in self.models():
            model.delete(item)

    def describe(self, user: User) -> int:
        """Takes what a record of the users topic says; an unknown user becomes a node. Returns the node."""
        node = self.model.users.encode([user.user_id])[0]
        for model in self.models():
            model.describe_user(node, rows_of_attributes(user.attributes or {}))
        return node

    def forget_user(self, user: int) -> None:
        """Nothing is known of a user but the interactions, and the id is somebody new's."""
        self.model.forget_user(user)
        for one in self.followers.values():  # whose ids are the same
            one.model.describe_user(user, NO_ATTRIBUTES)
            if len(one.model.trained.user.dirty):
                describe(one.model.trained.user, user, NO_VECTOR)

    def observe(self, columns: Columns) -> None:
        """Takes interactions into the graph, without a list and with nothing learned."""
        for model in self.models():
            model.observe(*columns)

    def known_vectors(self, folder: Path, version: str) -> KnownVectors:
        """What a version of embeddings has of the nodes that there are; OFF has nothing. Raises EmbeddingsDamaged."""
        return self._match_vectors(*_checked(folder, version))

    def _match_vectors(self, users: NodeVectors, items: NodeVectors) -> KnownVectors:
        return KnownVectors(*_known(self.model.users, users), *_known(self.model.items, items))

    def load_embeddings(
        self, folder: Path, version: str, is_erased: Callable[[str], bool] = lambda user_id: False
    ) -> None:
        """Uses a version of embeddings from here on; a node that comes later has none until the next one.

        Before the first interaction every id of the version becomes a node, since all of them come later.
        is_erased: whose vector is left out; who came back under an erased id is somebody new.
        """
        users, items = _checked(folder, version)
        if not self.model.events:
            self.model.users.encode([id_ for id_ in users.ids if not is_erased(id_)])
            self.model.items.encode(items.ids)
        known = self._match_vectors(users, items)
        ids = self.model.users.ids
        kept = [row for row, node in enumerate(known.users) if not is_erased(ids[node])]
        nodes = [known.users[row] for row in kept]
        for model in self.models():
            model.set_outside_vectors(version, nodes, known.of_users[kept], known.items, known.of_items)

    def take(
        self,
        columns: Columns,
        *,
        learn: np.ndarray | bool = True,
        score: bool = True,
        publish: np.ndarray | bool = True,
        block: np.ndarray | None = None,
        between: Callable[[], None] | None = None,
        under: Selection | None = None,
        sources: bool = False,
    ) -> Outcome:
        """score → learn → observe for each event; lists are published for the last event of each user.

        Args:
            publish: [N] 1: after this event; False: after none.
            between: see `Model.take`.
            under: what is listed; None: as the settings say.
            sources: whether the sources of the test lists are wanted.
        """
        n = len(columns.user)
        flags = np.ones(n, np.uint8)
        if not isinstance(publish, np.ndarray):
            publish = last_of_user(columns.user) if publish else np.zeros(n, np.uint8)
        under = under or Selection(self.k, self.exclude_seen)
        return self.model.take(
            *columns,
            k=under.k,
            score=flags * score,
            learn=flags * np.asarray(learn, np.uint8),
            publish=publish,
            exclude_seen=under.exclude_seen,
            request_context=self.request_context,
            block=block,
            between=between,
            allowed=under.allowed,
            sources=sources,
        )

    def relist(self, users: np.ndarray, now_ms: int, under: Selection | None = None) -> Outcome:
        """The published lists of users [N] at `now_ms`, with no interaction; under: see `take`."""
        return self.model.relist(users, now_ms, *(under or Selection(self.k, self.exclude_seen)))

    def listable(self, item_id: str, user: int | None = None) -> int | None:
        """The node of an item that is known and neither deleted nor hidden; user: who must not have taken it."""
        node, items = self.model.items.get(item_id), self.model.graph.items
        if node is None or node >= len(items.alive) or items.alive[node] != LISTED or items.first_time[node] < 0:
            return None
        return None if user is not None and self.has_taken(user, node) else node

    def has_taken(self, user: int, item: int) -> bool:
        """Whether the user has ever interacted with the item: `tgn.seen_pairs.has_pair`, for a few."""
        keys, key = self.model.graph.pairs.key, (user + 1) << 32 | item
        mask = len(keys) - 1
        slot = ((key * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 20) & mask
        while keys[slot] and int(keys[slot]) != key:
            slot = (slot + 1) & mask
        return bool(keys[slot])

    def warm_up(self) -> None:
        """Loads the kernels that an interaction needs, so that the first one takes no longer; changes nothing."""
        self.take(self.encode((), (), (), (), ()))

    def recommend(self, user: str, now_ms: int) -> list[str]:
        """The ids that `user` would be listed at `now_ms`, best first; changes nothing."""
        node = self.model.users.get(user)
        if node is None:
            return []
        return [self.model.items.ids[item] for item in self.model.recommend(node, now_ms, self.k, self.exclude_seen)]


def _checked(folder: Path, version: str) -> tuple[NodeVectors, NodeVectors]:
    """The vectors of users and of items of a version that fits the model. Raises EmbeddingsDamaged."""
    if version == OFF:
        return NOTHING, NOTHING
    users, items = read_version(folder, version)
    if users.vector.shape[1] > SIZE:
        raise EmbeddingsDamaged(f"{folder / version} has vectors of {users.vector.shape[1]} numbers, at most {SIZE}")
    return users, items


def _known(index: NodeIndex, vectors: NodeVectors) -> tuple[list[int], np.ndarray]:
    nodes = [index.get(id_) for id_ in vectors.ids]
    rows = [row for row, node in enumerate(nodes) if node is not None]
    found = vectors.vector[rows]
    unit = np.zeros((len(rows), SIZE), np.float32)
    unit[:, : found.shape[1]] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return [node for node in nodes if node is not None], unit


def last_of_user(user: np.ndarray) -> np.ndarray:
    """[N] 1 at the last event of each user: a user's lists within one commit are coalesced to the newest."""
    flags = np.zeros(len(user), np.uint8)
    _, from_end = np.unique(user[::-1], return_index=True)
    flags[len(user) - 1 - from_end] = 1
    return flags
