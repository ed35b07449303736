"""Which partition a key belongs to: murmur2, as Kafka's Java client and librdkafka's `murmur2_random` have it."""

from functools import lru_cache

_M, _MASK = 0x5BD1E995, 0xFFFFFFFF
CACHED_BYTES = 1024  # longer keys are hashed each time: producers choose them, and the cache keeps them


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash with Kafka's seed."""
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for n in range(0, whole, 4):
        k = int.from_bytes(data[n : n + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole != len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key.

    >>> [partition_of(key, partitions=4) for key in (b"ann", b"bob", b"cat")]
    [2, 2, 1]
    """
    return _cached(key, partitions) if len(key) <= CACHED_BYTES else _computed(key, partitions)


def _computed(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions


_cached = lru_cache(maxsize=1 << 17)(_computed)
