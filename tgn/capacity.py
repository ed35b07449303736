"""Room for more nodes and pairs in a graph."""

from tgn.config import ModelConfig
from tgn.graph import Graph, copy_into, new_items, new_rows, new_users
from tgn.seen_pairs import grown_pairs


def grow(graph: Graph, config: ModelConfig, users: int, items: int, events: int) -> Graph:
    """The same graph with room for `users` and `items` nodes and `events` more pairs; amortised by doubling."""
    if users > len(graph.users.events):
        size = max(users, 2 * len(graph.users.events))
        graph = graph._replace(users=copy_into(new_users(config, size), graph.users))
    if items > len(graph.items.events):
        size = max(items, 2 * len(graph.items.events))
        graph = graph._replace(
            items=copy_into(new_items(config, size), graph.items),
            transitions=copy_into(new_rows(config, size), graph.transitions),
            co=copy_into(new_rows(config, size), graph.co),
        )
    return graph._replace(pairs=grown_pairs(graph.pairs, events))
