"""What an item's record says of it, as a vector for the model (`tgn.outside_vectors`).

Every value of every attribute has a random direction (feature hashing, Weinberger et al. 2009), words of the title
likewise; latitude and longitude are random Fourier features (Rahimi & Recht 2007) of several reaches, so that the
inner product of two places falls with their distance. The parts are added up, each of the same length.
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

from consumers.schemas import Item
from tgn.graph import F32
from tgn.outside_vectors import SIZE

Coordinates = tuple[float, float]  # latitude, longitude, degrees
REACHES_KM = (0.5, 2.0, 8.0, 32.0)
EARTH_KM = 6371.0
WORD = re.compile(r"\w{2,}")
CACHED_CHARS = 200  # longer texts are hashed each time: producers choose them, and the cache keeps them


def hash_content(item: Item) -> F32:
    """[SIZE] of length 1; 0 where nothing is known."""
    attributes = item.attributes or {}
    parts = [_hashed(name, values) for name, values in gather_attributes(item).items()]
    if item.title:
        parts.append(_hashed("title", WORD.findall(item.title.lower())))
    if place := read_coordinates(attributes):
        parts.append(_near(place))
    return _unit(_sum(parts))


def gather_attributes(item: Item) -> dict[str, list[str]]:
    """Attribute → values of an item, its categories among them; latitude and longitude are not."""
    known = as_texts(item.attributes or {})
    if item.categories:
        known["category"] = list(item.categories)
    return known


def as_texts(attributes: Mapping[str, Any]) -> dict[str, list[str]]:
    """Attribute → values as text, of those that are text, whole numbers, truth values or lists of them."""
    known: dict[str, list[str]] = {}
    for name, value in attributes.items():
        values = value if isinstance(value, list) else [value]
        if name not in ("lat", "lon") and all(isinstance(v, str | int | bool) for v in values):
            known[name] = [str(v) for v in values]
    return known


def read_coordinates(attributes: Mapping[str, Any]) -> Coordinates | None:
    """Where something is, of its attributes `lat` and `lon`; None where they are no place on earth."""
    try:
        lat, lon = float(attributes["lat"]), float(attributes["lon"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None


def _hashed(name: str, values: Iterable[str]) -> F32:
    return _unit(_sum(_direction(name, value) for value in values))


def _direction(name: str, value: str) -> F32:
    return _cached(name, value) if len(name) + len(value) <= CACHED_CHARS else _drawn(name, value)


def _drawn(name: str, value: str) -> F32:
    digest = blake2b(f"{name}\0{value}".encode(), digest_size=SIZE // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) * 2 - 1


_cached = lru_cache(maxsize=1 << 16)(_drawn)


@lru_cache(maxsize=1)
def _waves() -> np.ndarray:
    """[3, SIZE / 2] wave numbers a km, normally distributed for each reach, so that a product is a sum of Gaussians."""
    drawn = np.random.default_rng(0).normal(size=(3, SIZE // 2))
    return np.asarray(drawn / np.repeat(REACHES_KM, SIZE // 2 // len(REACHES_KM)))


def _near(place: Coordinates) -> F32:
    lat, lon = (math.radians(angle) for angle in place)
    on_sphere = np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)])
    phase = EARTH_KM * on_sphere @ _waves()
    return _unit(np.concatenate([np.cos(phase), np.sin(phase)]))


def _sum(vectors: Iterable[F32]) -> F32:
    return np.asarray(sum(vectors, np.zeros(SIZE, np.float32)))


def _unit(vector: np.ndarray) -> F32:
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length else vector, np.float32)
