"""Groups of users who take the same items, to be dealt together in an experiment: they move each other's lists."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.log import Log
from streamer.errors import UsageError
from streamer.experiments.strata import users_of_topic
from streamer.features.tables import counted_rows, encode_ids
from streamer.features.topic_table import owned_rows, read_topic
from streamer.settings import Settings
from tgn.node_index import NodeIndex

UNLIKE_BY = 500
"""How much larger than the mean a group may be, in thousandths: groups of one size cut circles that are not."""


class UserGroups(NamedTuple):
    """Users in groups. `within`: the share of interactions with an item that the user's group takes most of all."""

    users: list[str]
    group: np.ndarray  # [U]
    within: float


def split(user: np.ndarray, item: np.ndarray, users: int, items: int, count: int) -> np.ndarray:
    """[U] the group of each user: the graph of users and items in parts with few ties between them.

    METIS (Karypis and Kumar 1998), as for experiments in networks (Ugander et al. 2013).

    Args:
        user, item: [N] who took what.
        users, items: how many there are.
        count: the number of groups.
    """
    import pymetis

    pairs, times = np.unique(np.stack([user, item + users]), axis=1, return_counts=True)
    ends = np.concatenate([pairs, pairs[::-1]], axis=1)
    order = np.lexsort(ends[::-1])
    rows = np.concatenate([[0], np.bincount(ends[0], minlength=users + items).cumsum()])
    graph = pymetis.CSRAdjacency(rows, ends[1][order])
    weight = np.concatenate([np.ones(users, int), np.zeros(items, int)])
    ties = np.concatenate([times, times])[order]
    options = pymetis.Options(ufactor=UNLIKE_BY)
    _, member = pymetis.part_graph(count, graph, vweights=weight.tolist(), eweights=ties.tolist(), options=options)
    return np.asarray(member)[:users]


def share_within(user: np.ndarray, item: np.ndarray, group: np.ndarray) -> float:
    """The share of interactions [N] with an item that is most of all taken by the user's own group [U]."""
    count = np.zeros((int(item.max()) + 1, int(group.max()) + 1), np.int64)
    np.add.at(count, (item, group[user]), 1)
    return float((count.argmax(axis=1)[item] == group[user]).mean())


def groups_of_topic(log: Log, settings: Settings, count: int) -> UserGroups:
    """The users of the topic of interactions in `count` groups, without the erased; sessions are their users'.

    Raises UnknownTopic, and UsageError where there are fewer users.
    """
    topic = read_topic(log, settings.interactions_topic, settings)
    rows = counted_rows(owned_rows(topic.table, topic.merges))
    erased = pa.array(sorted(users_of_topic(log, settings).erased), pa.string())
    rows = rows.filter(pc.invert(pc.is_in(rows["user_id"], erased)))
    users, items = NodeIndex(), NodeIndex()
    user, item = (encode_ids(index, rows[name]) for index, name in ((users, "user_id"), (items, "item_id")))
    if count > len(users):
        raise UsageError(f"--number: {count:,} groups of {len(users):,} users; take fewer groups")
    group = split(user, item, len(users), len(items), count)
    return UserGroups(users.ids, group, share_within(user, item, group))


def records_with_groups(log: Log, settings: Settings, field: str, found: UserGroups) -> Iterator[dict[str, Any]]:
    """A record of each user with their group in a field, beside what the topic of users says of them."""
    known = {user.user_id: user for user in users_of_topic(log, settings).known}
    for user_id, group in zip(found.users, found.group.tolist(), strict=True):
        told = known.get(user_id)
        when = {} if told is None or told.timestamp is None else {"timestamp": told.timestamp}
        yield {"user_id": user_id} | when | ((told.attributes if told else None) or {}) | {field: group}
