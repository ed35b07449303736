"""A key-value store that follows the log: Redis, through its client (the extra `redis`).

    PREFIX list:SURFACE:USER     the newest list of a user, as the record on its topic is
    PREFIX item:ITEM             the newest record of an item
    PREFIX user:USER             the newest record of a user
    PREFIX positions             hash: topic/partition → how much of it is in the store
    PREFIX topics                hash: topic → what tells it from one that was made anew

What lies before the positions is written in their transaction: a sink that dies anywhere goes on where the store is,
and one that was emptied is filled again. A cluster of Redis takes no such transaction: it is for one primary.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

import redis
from redis.exceptions import AuthenticationError, RedisError, WatchError

from consumers.errors import RedisUnavailable
from consumers.log import Closable, Positions
from consumers.records import TopicPartition

_LONGEST_WAIT_S = 10.0  # for an answer, and for a connection


@dataclass
class KeyBatch:
    """What one transaction writes.

    Args:
        values: key, without the prefix → its value; None: the key goes.
        positions: of partitions, after it.
    """

    values: dict[str, bytes | None] = field(default_factory=dict)
    positions: dict[TopicPartition, int] = field(default_factory=dict)


class KeyStore(Closable):
    """The keys of one database that begin with a prefix.

    Args:
        url: such as redis://localhost:6379/0, rediss:// with TLS, or unix:///path/of/a/socket.
        prefix: what each key begins with, so that several applications share a database.
        user: where the database asks for one.
        password: the same.

    Raises RedisUnavailable, here and in every method.
    """

    def __init__(self, url: str, prefix: str, user: str | None = None, password: str | None = None) -> None:
        parts = urlsplit(url)
        self._place = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._prefix = prefix.encode()
        given = {name: value for name, value in (("username", user), ("password", password)) if value is not None}
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=_LONGEST_WAIT_S, socket_connect_timeout=_LONGEST_WAIT_S, **given
            )
        except ValueError as error:
            raise RedisUnavailable(f"{self._place} is no address of a Redis: {error}") from error
        self._positions = self._key("positions")
        self._topics = self._key("topics")
        self._known: dict[bytes, bytes] | None = None  # the positions, as the store has them

    def positions(self) -> Positions:
        """The next offset of each partition that has been read."""
        self._known = self._hash(self._positions)
        found = {}
        for name, position in self._known.items():
            topic, _, partition = name.decode().rpartition("/")
            found[TopicPartition(topic, int(partition))] = int(position)
        return found

    def topic_ids(self) -> dict[str, str]:
        """Of the topics that the positions are from, what tells each from one that was made anew."""
        return {topic.decode(): id_.decode() for topic, id_ in self._hash(self._topics).items()}

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forgets how much of these partitions is in it: they are other ones now, to be read from their first record.

        Values of the former ones stay, until the new ones have others.
        """
        names = [_name(tp) for tp in partitions]
        if names:
            with self._asking():
                self._client.hdel(self._positions, *names)
        self.positions()

    def write(self, batch: KeyBatch, topic_ids: Mapping[str, str] = MappingProxyType({})) -> None:
        """One transaction: all of it and the positions after it, or nothing. `topic_ids`: see `Log.topic_ids`.

        Raises RedisUnavailable too where the positions are not those that this process left: the store was emptied, or
        another sink writes to it.
        """
        if self._known is None:
            self.positions()
        reached = {_name(tp): b"%d" % position for tp, position in batch.positions.items()}
        ids = {topic.encode(): id_.encode() for topic, id_ in topic_ids.items()}
        with self._asking(), self._client.pipeline() as pipe:
            pipe.watch(self._positions)  # type: ignore[no-untyped-call]
            if pipe.hgetall(self._positions) != self._known:
                raise RedisUnavailable(f"{self._place}: the positions were changed meanwhile; going on from there")
            pipe.multi()
            for name, value in batch.values.items():
                if value is None:
                    pipe.delete(self._key(name))
                else:
                    pipe.set(self._key(name), value)
            for partition, position in reached.items():
                pipe.hset(self._positions, partition, position)
            for topic, id_ in ids.items():
                pipe.hset(self._topics, topic, id_)
            pipe.execute()
        self._known = {**(self._known or {}), **reached}

    def counts(self) -> dict[str, int]:
        """How many keys of each kind there are. It looks at every key of the database."""
        found = dict.fromkeys(("list", "item", "user"), 0)
        with self._asking():
            for key in self._client.scan_iter(match=_literal(self._prefix) + b"*", count=10_000):
                kind = key[len(self._prefix) :].partition(b":")[0].decode()
                if kind in found:
                    found[kind] += 1
        return found

    def close(self) -> None:
        self._client.close()

    def _hash(self, key: bytes) -> dict[bytes, bytes]:
        with self._asking():
            return cast(dict[bytes, bytes], self._client.hgetall(key))

    def _key(self, name: str) -> bytes:
        return self._prefix + name.encode()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What the client raises, as an error of Freshet's."""
        try:
            yield
        except WatchError as error:
            raise RedisUnavailable(f"{self._place}: another sink writes to it; going on from there") from error
        except AuthenticationError as error:
            raise RedisUnavailable(
                f"{self._place} refuses the user: set FRESHET_REDIS_USER and FRESHET_REDIS_PASSWORD"
            ) from error
        except RedisError as error:
            raise RedisUnavailable(f"{self._place}: {error}") from error


def _name(tp: TopicPartition) -> bytes:
    return f"{tp.topic}/{tp.partition}".encode()


def _literal(pattern: bytes) -> bytes:
    """A pattern of Redis that stands for these bytes alone."""
    return b"".join(b"\\%c" % one if one in b"*?[]\\^" else b"%c" % one for one in pattern)
