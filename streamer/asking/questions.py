"""What can be asked: one model for each kind of question, with the bounds of its fields.

A question is a value: the web makes it of a request, JSON takes it to the worker that owns the user, `Answers` answers
it. Unknown fields are refused.
"""

from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from streamer.lists.rules import Rules

MAX_ID_BYTES, MAX_TIME_MS = 1024, 2**53
MOST = 1_000
"""The most places of a list, and the most items that a question names."""


class Answer(NamedTuple):
    """What a question is answered with: an HTTP status and a body of JSON.

    Where the status is no 2xx the body is `{"error": {"code", "message", "field"?}}`.
    """

    status: int
    body: bytes


def _decimal(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("an id is text that UTF-8 can write") from None
    if not 1 <= size <= MAX_ID_BYTES:
        raise ValueError(f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8, not {size}")
    return text


def _each_once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


Id: TypeAlias = Annotated[
    str,
    BeforeValidator(_decimal),
    AfterValidator(_short),
    Field(
        description="an id, as UTF-8; an integer becomes its decimal text",
        json_schema_extra={"minLength": 1, "maxLength": MAX_ID_BYTES},
    ),
]
Time: TypeAlias = Annotated[StrictInt, Field(ge=0, le=MAX_TIME_MS, description="epoch milliseconds")]
Places: TypeAlias = Annotated[
    int, Field(ge=1, le=MOST, description="number of places; the worker's own k where it is not said")
]


def _number(value: object) -> object:
    if isinstance(value, bool | str):  # pydantic takes both for numbers
        raise ValueError("input should be a number")
    return value


PlacesOfBody: TypeAlias = Annotated[Places, BeforeValidator(_number)]
FilterText: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=8_000, description='which items may be listed, in CEL: item.category == "shoes"'),
]
Cursor: TypeAlias = Annotated[str, Field(max_length=512, description="where the page before ended: its `cursor`")]


def _plain(value: object, validated: ValidatorFunctionWrapHandler) -> object:
    try:
        return validated(value)
    except ValidationError:  # of each type that it is not
        raise ValueError("it is a text of at most 1,024 characters, a number, true or false") from None


Value: TypeAlias = Annotated[
    StrictBool
    | StrictInt
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[StrictStr, Field(max_length=1_024)],
    WrapValidator(_plain),
]
Context: TypeAlias = dict[Annotated[str, Field(min_length=1, max_length=64)], Value]
ShownFields: TypeAlias = Annotated[
    list[Literal["title", "attributes"]],
    FailFast(),
    AfterValidator(_each_once),
    Field(description="what is told of each item beside its id"),
]
Scale: TypeAlias = Literal["1h", "1d", "7d", "30d", "all"]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionItem(_Question):
    """One interaction of a session, as somebody without an id had it."""

    item_id: Id
    event_type: Annotated[str, Field(min_length=1, max_length=1_024)] | None = Field(
        None, description="its weight is that of the event type; 1 where it is not said"
    )
    timestamp: Time | None = Field(None, description="epoch ms; now where it is not said")


class Boost(_Question):
    """Where `if` is true, an item is `factor` times as likely to be chosen as the model says."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    condition: FilterText = Field(alias="if", description="which items, in CEL")
    factor: float = Field(gt=0, le=1_000, allow_inf_nan=False, strict=True)


class _OfItems(_Question):
    """A question whose answer is a ranking of items."""

    k: PlacesOfBody | None = None
    filter: FilterText | None = None
    fields: ShownFields = []


class ListQuestion(_OfItems):
    """A list: of a user, of a session, of a basket, or, where none of those is given, of anybody."""

    kind: Literal["list"] = "list"
    user_id: Id | None = Field(None, description="for whom; somebody unknown gets a list with its `fallback`")
    session: list[SessionItem] | None = Field(
        None, min_length=1, max_length=MOST, description="what somebody without an id did, in order"
    )
    items: list[Id] | None = Field(None, min_length=1, max_length=MOST, description="the items of a basket")
    surface: str = Field("default", min_length=1, max_length=64, description="where the list is shown")
    exclude: list[Id] = Field([], max_length=MOST, description="items that are not listed")
    candidates: list[Id] | None = Field(
        None, min_length=1, max_length=MOST, description="the only items that are listed: those of them that may be"
    )
    context: Context = Field(
        {}, max_length=64, description="where and how it is asked: device, geo, os, country, referrer, …"
    )
    boost: list[Boost] = Field([], max_length=50, description="items that count more, or less")
    personalize: bool = Field(True, description="false: what anybody would get, nothing of the user is read")
    explain: bool = Field(False, description="true: each item names the interaction that led to it")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        strict=True,
        description="0: the best items, 1: items as unlike as can be, in the first 100 places",
    )
    explore: float = Field(
        0.0, ge=0, le=1, strict=True, description="share of the places that are drawn; each item says its propensity"
    )
    shown: dict[Id, Annotated[StrictInt, Field(ge=1, le=1_000_000)]] = Field(
        {}, max_length=MOST, description="how often each item was shown to the user since they took it last"
    )
    fatigue: float = Field(
        0.0, ge=0, le=1, strict=True, description="share of an item's odds that each time it was `shown` takes"
    )

    @model_validator(mode="after")
    def _one_asker(self) -> "ListQuestion":
        given = [name for name in ("user_id", "session", "items") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"only one of user_id, session and items can be given, not {' and '.join(given)}")
        return self


class PreviewQuestion(_Question):
    """A user's list as it is, and as other rules of its surface would make it."""

    kind: Literal["preview"] = "preview"
    user_id: Id
    rules: Rules
    k: PlacesOfBody | None = None
    fields: ShownFields = []
    context: Context = Field({}, max_length=64, description="where and how it is asked")


class RulesQuestion(_Question):
    """What of rules can have no effect, as far as is known now."""

    kind: Literal["rules"] = "rules"
    rules: Rules


class SimilarQuestion(_OfItems):
    """Items like one item: by content, trained vectors, and what the same users took."""

    kind: Literal["similar"] = "similar"
    item_id: Id


class TogetherQuestion(_OfItems):
    """Items that were taken along with one item, most often first."""

    kind: Literal["together"] = "together"
    item_id: Id


class AudienceQuestion(_Question):
    """Who should hear of an item: the users it suits best among those who were active last."""

    kind: Literal["audience"] = "audience"
    item_id: Id
    k: PlacesOfBody | None = None


class PopularQuestion(_OfItems):
    """Items by popularity, decayed with a time scale; `all` counts every interaction alike."""

    kind: Literal["popular"] = "popular"
    scale: Scale = Field("1d", description="time scale: after it, 1/e of an interaction's weight is left")
    cursor: Cursor | None = None


class TrendingQuestion(_OfItems):
    """Items whose popularity rises: that of the last hour or so against what it usually is."""

    kind: Literal["trending"] = "trending"
    cursor: Cursor | None = None


class NewestQuestion(_OfItems):
    """Items by when they became known, the newest first."""

    kind: Literal["newest"] = "newest"
    cursor: Cursor | None = None


class UserQuestion(_Question):
    """What is known of a user: attributes, last interactions, counts."""

    kind: Literal["user"] = "user"
    user_id: Id


class SessionQuestion(_Question):
    """Whose a session is: that of a user, as far as is known now."""

    kind: Literal["session"] = "session"
    user_id: Id = Field(description="the id under which its interactions were sent")


class ItemQuestion(_Question):
    """What is known of an item: its record, counts, popularity by time scale."""

    kind: Literal["item"] = "item"
    item_id: Id


class ExplanationQuestion(_Question):
    """Why an item stands where it stands for a user."""

    kind: Literal["explanation"] = "explanation"
    user_id: Id
    item_id: Id


class SurpriseQuestion(_Question):
    """How surprising each of a user's last interactions was, the most surprising first."""

    kind: Literal["surprise"] = "surprise"
    user_id: Id
    k: PlacesOfBody | None = None


class StatusQuestion(_Question):
    """How far the state is, and how large."""

    kind: Literal["status"] = "status"


Question: TypeAlias = Annotated[
    ListQuestion
    | PreviewQuestion
    | RulesQuestion
    | SimilarQuestion
    | TogetherQuestion
    | AudienceQuestion
    | PopularQuestion
    | TrendingQuestion
    | NewestQuestion
    | UserQuestion
    | SessionQuestion
    | ItemQuestion
    | ExplanationQuestion
    | SurpriseQuestion
    | StatusQuestion,
    Field(discriminator="kind"),
]

QUESTIONS: TypeAdapter[list[Question]] = TypeAdapter(list[Question])
"""A batch of questions, from JSON and to it."""


def key(question: Question) -> str | None:
    """The user whose partition answers the question; None: any worker can."""
    return getattr(question, "user_id", None)
