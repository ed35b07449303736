"""What somebody may have meant by a name that is none of those that are known."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    >>> did_you_mean("boost", ["boosts", "pins"]), did_you_mean("x", ["boosts", "pins"])
    ("; did you mean 'boosts'?", '')
    """
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_error(error: ValidationError) -> ErrorDetails:
    """The first thing that is wrong; where a field is missing, one beside it whose name is unknown explains that."""
    errors = error.errors(include_url=False, include_input=False)
    beside = (one for one in errors if one["type"] == "extra_forbidden" and one["loc"][:-1] == errors[0]["loc"][:-1])
    return next(beside, errors[0]) if errors[0]["type"] == "missing" else errors[0]


def fields_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """What may stand beside the last part of a place in what a model describes, such as ("boosts", 0, "fi")."""
    inner: type[BaseModel] | None = model
    for part in place[:-1]:
        if isinstance(part, str) and inner is not None:
            inner = _model_in(_by_given_name(inner).get(part))
    return [] if inner is None else list(_by_given_name(inner))


def _by_given_name(model: type[BaseModel]) -> dict[str, Any]:
    """The type of each field, by the name that it has in JSON."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(kind: Any) -> type[BaseModel] | None:
    """The model that a type is, or that its elements or values are."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for part in get_args(kind) if (found := _model_in(part)) is not None), None)
