"""Parameters of a query, and objects of a body, as models: what does not fit is refused with its name."""

import re
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import HTTPConnection

from streamer.asking.questions import (
    Context,
    Cursor,
    FilterText,
    Id,
    ListQuestion,
    Places,
    PlacesOfBody,
    Scale,
    ShownFields,
)
from streamer.lists.rules import Rules
from streamer.near_names import did_you_mean, fields_at, first_error
from streamer.web.answers import ApiError

MAX_SHOWN = 100  # characters of a name that a client made up
Model = TypeVar("Model", bound=BaseModel)


def _digits(text: object) -> object:
    if isinstance(text, str) and not _DIGITS.fullmatch(text):  # int() takes spaces and 1_000 too
        raise ValueError("input should be a whole number")
    return text


_DIGITS = re.compile(r"-?[0-9]{1,19}")
QueryPlaces: TypeAlias = Annotated[Places, BeforeValidator(_digits)]


class Parameters(BaseModel):
    """Parameters of a query. One whose type is a list may be there several times, or with commas."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dotted: ClassVar[str | None] = None
    """A field that is given a key at a time, `context.device=phone`."""


class NoParameters(Parameters):
    """There are none."""


class RankingParameters(Parameters):
    """Of paths that answer with a ranking of items."""

    k: QueryPlaces | None = None
    filter: FilterText | None = None
    fields: ShownFields = []


class ListParameters(RankingParameters):
    """Of a user's list: see `streamer.asking.questions.ListQuestion`."""

    dotted = "context"
    surface: str = Field("default", min_length=1, max_length=64, description="where the list is shown")
    exclude: list[Id] = Field([], max_length=1_000, description="ids of items that are not listed")
    context: dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=1_024)]] = Field(
        {}, max_length=64, description="where and how it is asked: context.device=phone, context.country=NO, …"
    )
    personalize: bool = Field(True, description="false: what anybody would get, nothing of the user is read")
    explain: bool = Field(False, description="1: each item names the interaction that led to it")


class PageParameters(RankingParameters):
    """Of rankings that come in pages."""

    limit: QueryPlaces | None = Field(None, description="number of places of a page; the same as k")
    cursor: Cursor | None = None

    def page(self) -> dict[str, Any]:
        """The fields of a question."""
        return {"k": self.limit or self.k, "filter": self.filter, "fields": self.fields, "cursor": self.cursor}


class PopularParameters(PageParameters):
    """Of what is popular."""

    scale: Scale = Field("1d", description="time scale: after it, 1/e of an interaction's weight is left")


class RulesParameters(Parameters):
    """Of the rules in force."""

    surface: str | None = Field(
        None, min_length=1, max_length=64, description="the only surface whose rules are told, with those of before"
    )


class SearchParameters(Parameters):
    """Of a search for items."""

    search: str = Field("", max_length=200, description="what the title has in it, or the id of an item")
    limit: QueryPlaces | None = Field(None, description="number of items, 20 where it is not said")


class SurfaceParameters(Parameters):
    """Of what is done to the rules of one surface."""

    surface: str = Field(min_length=1, max_length=64, description="whose rules")


class CountParameters(Parameters):
    """Of what has a number of places alone."""

    k: QueryPlaces | None = None


class WaitParameters(Parameters):
    """Of interactions."""

    wait: Annotated[int, Field(ge=1, le=60_000), BeforeValidator(_digits)] | None = Field(
        None, description="wait for the list that knows them, at most so many milliseconds"
    )


class RetractionParameters(Parameters):
    """Of an interaction that is taken back."""

    user_id: Id = Field(description="whose interaction it is: ids belong to users")


class FeedParameters(Parameters):
    """Of the page's feed."""

    user: str | None = Field(None, description="a user whose lists are told too")


class SessionKey(BaseModel):
    """What a session is opened with."""

    key: str = Field(description="an API key")


class MergedSession(BaseModel):
    """The session that becomes a user's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    session: Id = Field(description="the user_id under which its interactions were sent")


class ItemFields(BaseModel):
    """Fields of an item, attributes too."""

    model_config = ConfigDict(extra="allow")


class RulesPreview(BaseModel):
    """Rules that are not in force, and for whom lists are made by them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    rules: Rules
    users: list[Id] = Field(min_length=1, max_length=100, description="users whose lists are shown")
    k: PlacesOfBody | None = None
    fields: ShownFields = []
    context: Context = Field({}, max_length=64, description="where and how the lists are asked for")


class RulesRollback(BaseModel):
    """Which rules of before are to be in force again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    surface: str = Field("default", min_length=1, max_length=64, description="whose rules")
    version: str | None = Field(
        None, min_length=1, max_length=64, description="its first digits; the version before this one where not said"
    )


class ListRequests(BaseModel):
    """Several lists at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    requests: list[ListQuestion] = Field(min_length=1, max_length=100)


def read_parameters(model: type[Parameters], request: HTTPConnection) -> Parameters:
    """The parameters of a request's query. Raises ApiError for one that is unknown, there twice, or wrong."""
    given: dict[str, Any] = {}
    names, lists = _names(model), _lists(model)
    for name, text in _pairs(request.scope["query_string"]):
        field, dot, part = name.partition(".")
        if dot and field == model.dotted:
            table = given.setdefault(field, {})
            if part in table:
                raise _repeated(name)
            table[part] = text
        elif name not in names or name == model.dotted:
            known = sorted(f"{one}.NAME" if one == model.dotted else one for one in names)
            takes = f"; it takes {', '.join(known)}" if names else ""
            shown = name[:MAX_SHOWN]
            raise ApiError(400, "unknown-parameter", f"there is no parameter {shown!r} here{takes}", field=shown)
        elif name in lists:
            given.setdefault(name, []).extend(text.split(","))
        elif name in given:
            raise _repeated(name)
        else:
            given[name] = text
    return validated(model, given, "parameter") if given or _needed(model) else model.model_construct()


def _pairs(query: bytes) -> list[tuple[str, str]]:
    """Names and values. Raises ApiError where they are no UTF-8, or too many."""
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise ApiError(400, "bad-parameter", "the query is no UTF-8") from None
    except ValueError as error:
        raise ApiError(400, "bad-parameter", f"the query cannot be read: {error}") from None


def validated(model: type[Model], given: Any, noun: Literal["parameter", "field"]) -> Model:
    """`given` as a model. Raises ApiError with the first thing that is wrong."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refusal(error, noun, model) from None


def refusal(
    error: ValidationError, noun: Literal["parameter", "field"], model: type[BaseModel] | None = None
) -> ApiError:
    """The first thing that is wrong with what is to be of the model, as an answer."""
    first = first_error(error)
    kind, message = first["type"], first["msg"].removeprefix("Value error, ")
    place = first["loc"] if noun == "field" or first["loc"][:1] == ("context",) else first["loc"][:1]
    field = ".".join(str(part) for part in place if part != "[key]")[:MAX_SHOWN]
    code = {"extra_forbidden": f"unknown-{noun}", "missing": f"missing-{noun}"}.get(kind, f"bad-{noun}")
    if kind == "value_error" and message.startswith("an id "):
        code = "bad-id"
    if kind == "extra_forbidden":
        known = [] if model is None else fields_at(model, first["loc"])
        message = f"there is no {noun} {field!r} here{did_you_mean(str(first['loc'][-1])[:MAX_SHOWN], known)}"
    else:
        message = f"{field}: {message[:1].lower()}{message[1:]}" if field else message
    return ApiError(400, code, " ".join(message.split()), field=field or None)


def _repeated(name: str) -> ApiError:
    shown = name[:MAX_SHOWN]
    return ApiError(400, "repeated-parameter", f"the parameter {shown!r} is there more than once", field=shown)


@cache
def _names(model: type[Parameters]) -> frozenset[str]:
    return frozenset(model.model_fields)


@cache
def _lists(model: type[Parameters]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if get_origin(field.annotation) is list)


@cache
def _needed(model: type[Parameters]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())
