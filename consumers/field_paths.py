"""Where a field of ours stands in what others write: a name, a path of names, or several of which the first counts."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

ABSENT: Any = object()
OWN_NAME = ("context.", "attributes.")  # before a name that is none of our fields


def value_at(data: Mapping[str, Any], expression: str) -> Any:
    """What stands at an expression; ABSENT where nothing does.

    A name that the data has as it is counts before all else. Of several, with "|" between them, the first counts that
    is neither null nor empty.

    >>> value_at({"user": {"id": 7}, "anonymousId": "a"}, "user.id|anonymousId")
    7
    >>> value_at({"userId": None, "anonymousId": "a"}, "userId|anonymousId")
    'a'
    >>> value_at({"user.id": "b", "user": {"id": 7}}, "user.id")
    'b'
    """
    if expression in data:
        return data[expression]
    found = ABSENT
    for path in alternatives(expression):
        value = _at(data, path)
        if value is not ABSENT and (found is ABSENT or value not in (None, "")):
            found = value
            if found not in (None, ""):
                break
    return found


@lru_cache(maxsize=1024)
def alternatives(expression: str) -> tuple[str, ...]:
    """The paths of an expression.

    >>> alternatives("user.id | anonymousId")
    ('user.id', 'anonymousId')
    """
    return tuple(path.strip() for path in expression.split("|"))


def root_of(path: str) -> str:
    """The name with which a path begins."""
    return path.partition(".")[0].removesuffix("[]")


def _at(data: Mapping[str, Any], path: str) -> Any:
    if path in data:
        return data[path]
    value: Any = data
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ABSENT
        value = value[name]
    return value


def unprefixed(field_map: Mapping[str, str]) -> dict[str, str]:
    """A field map whose own names stand without what says where they belong.

    >>> unprefixed({"user_id": "uid", "context.shelf": "s"})
    {'user_id': 'uid', 'shelf': 's'}
    """
    return {ours.removeprefix("context.").removeprefix("attributes."): theirs for ours, theirs in field_map.items()}
