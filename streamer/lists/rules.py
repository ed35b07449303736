"""Rules of a surface: what may be listed, what counts more, what stands where, how much of one kind."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from streamer.engine.challenger_config import challenger_config
from streamer.features.item_columns import Path
from streamer.lists.filters.compiled import compile_filter
from streamer.lists.filters.vectors import span_ms
from streamer.near_names import did_you_mean, fields_at, first_error
from tgn.config import ModelConfig, Part

MAX_K = 1_000
HOLDBACK = "holdback"
SURFACE = r"^[a-z0-9][a-z0-9_-]{0,63}$"
USER_FIELD = r"^user(\.[A-Za-z_][A-Za-z0-9_]*){1,8}$"


def _checked_filter(text: Any) -> Any:
    if isinstance(text, str):
        compile_filter(text)  # FilterError is a ValueError: it says which field, and where in it
    return text


CelText = Annotated[str, BeforeValidator(_checked_filter)]


class _RulePart(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True, allow_inf_nan=False
    )


class BoostRule(_RulePart):
    """Where `if` is true, an item is `factor` times as likely to be chosen as the model says."""

    condition: CelText = Field(alias="if")
    factor: float = Field(gt=0, le=1_000)


class Pin(_RulePart):
    """The item stands at `place`, from 1, where `if` is true; an item that may not be listed is not pinned either."""

    item_id: str = Field(min_length=1, max_length=1_024)
    place: int = Field(ge=1, le=MAX_K)
    condition: CelText | None = Field(default=None, alias="if")


class Quota(_RulePart):
    """At most `max` items of a list have the same value of the field `per`; of a list of values none comes oftener."""

    per: str = Field(pattern=r"^item(\.[A-Za-z_][A-Za-z0-9_]*){1,8}$")
    max: int = Field(ge=1, le=MAX_K)

    def path(self) -> Path:
        """The names that lead to the value."""
        return tuple(self.per.split(".")[1:])


class ArmModel(_RulePart):
    """What a challenger's model has otherwise than the live one: settings of `tgn.config.ModelConfig`, with its bounds.

    Those that decide which interactions a repair reads, or how many numbers a user or an item has, are the live one's.
    """

    learning_rate: float | None = None
    learning_draws: int | None = None
    embedding_rate: float | None = None
    hidden: int | None = Field(default=None, description="another one: the ranker begins with nothing learned")
    popularity_scales_ms: tuple[int, int, int, int, int] | None = None
    row_scales_ms: tuple[int, int] | None = None
    baseline_scale: int | None = None
    sitting_ms: int | None = None
    memory_scale_ms: int | None = None
    transition_sources: int | None = None
    co_sources: int | None = None
    every_item_below: int | None = None
    retrieved: int | None = None
    waiting_nearest: int | None = None
    without: tuple[Part, ...] | None = Field(default=None, description="parts that are left out")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.beside(ModelConfig())
        return self

    def beside(self, live: ModelConfig) -> ModelConfig:
        """The challenger's configuration, where the live model has this one. Raises ValueError."""
        return challenger_config(live, self.own())

    def own(self) -> dict[str, Any]:
        """What is said."""
        return {name: value for name, value in self if value is not None}


class ExperimentArm(_RulePart):
    """One way of making lists, for a share of the users; what it does not say is as for everybody else."""

    name: str = Field(pattern=SURFACE)
    share: float = Field(gt=0, le=1)
    boosts: tuple[BoostRule, ...] | None = Field(default=None, max_length=50)
    pins: tuple[Pin, ...] | None = Field(default=None, max_length=50)
    quotas: tuple[Quota, ...] | None = Field(default=None, max_length=10)
    diversity: float | None = Field(default=None, ge=0, le=1)
    explore: float | None = Field(default=None, ge=0, le=1)
    debias: float | None = Field(default=None, ge=0, le=1)
    fatigue: float | None = Field(default=None, ge=0, le=1)
    model: ArmModel | None = Field(
        default=None, description="the lists are a challenger's: a model of its own, which differs in this"
    )


class SurfaceExperiment(_RulePart):
    """An experiment on a surface. Users of whom nothing is said by shares and holdback take no part."""

    name: str = Field(pattern=SURFACE)
    salt: str = Field(min_length=1, max_length=64)
    unit: str | None = Field(
        default=None, pattern=USER_FIELD, description="users of the same value of this field are dealt together"
    )
    holdback: float = Field(default=0.0, ge=0, lt=1, description="share of users who are kept out, and counted")
    arms: tuple[ExperimentArm, ...] = Field(min_length=2, max_length=10)
    stopped: tuple[str, ...] = Field(default=(), max_length=10, description="arms that are over: lists of everybody")
    shadow: bool = Field(default=False, description="nobody is dealt yet: challengers are measured alone")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [arm.name for arm in self.arms]
        if HOLDBACK in names:
            raise ValueError(f"arms: {HOLDBACK!r} is the name of those who are kept out; call the arm something else")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"arms: {twice[0]!r} is the name of several arms; give each a name of its own")
        together = sum(arm.share for arm in self.arms) + self.holdback
        if together > 1 + 1e-9:
            raise ValueError(f"arms: shares and holdback are {together:g} together; they may be 1 at most")
        return self

    def challengers(self) -> dict[str, ArmModel]:
        """`experiment/arm` of each arm that has a model of its own and is not over, and what that differs in."""
        on = [arm for arm in self.arms if arm.name not in self.stopped]
        return {f"{self.name}/{arm.name}": arm.model for arm in on if arm.model is not None}


class Rules(_RulePart):
    """The rules of a surface, as JSON has them; what is not said is as without rules."""

    surface: str = Field(default="default", pattern=SURFACE, description="where lists are shown")
    filter: CelText | None = Field(default=None, description="which items may be listed, in CEL")
    boosts: tuple[BoostRule, ...] = Field(default=(), max_length=50)
    pins: tuple[Pin, ...] = Field(default=(), max_length=50)
    quotas: tuple[Quota, ...] = Field(default=(), max_length=10)
    seen: str | None = Field(
        default=None,
        pattern=r"^(exclude|allow|after [1-9][0-9]{0,4}[dh])$",
        description="what the user has taken: exclude, allow, or after 30d; the setting exclude_seen where not said",
    )
    diversity: float = Field(default=0.0, ge=0, le=1, description="0: the best items, 1: items as unlike as can be")
    explore: float = Field(default=0.0, ge=0, le=1, description="share of the places that are drawn")
    debias: float = Field(default=0.0, ge=0, le=1, description="share of popularity that is taken out of the scores")
    fatigue: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of an item's odds that goes each time the user was shown it, as questions say",
    )
    k: int | None = Field(default=None, ge=1, le=MAX_K, description="number of places; the setting k where not said")
    publish: bool | None = Field(
        default=None,
        description="false: lists are made where they are asked for alone; where not said that is so of every surface "
        "but the one that the settings name",
    )
    fallback: tuple[Literal["similar-items", "cohort", "popular", "new"], ...] = Field(
        default=(),
        max_length=4,
        description="what fills the list of whom nothing is known of, in this order; the model where it names nothing",
    )

    experiment: SurfaceExperiment | None = Field(
        default=None, description="the experiment that runs on the surface; `freshet experiment start` puts it here"
    )

    def of_arm(self, arm: ExperimentArm) -> "Rules":
        """The rules of an arm of the experiment."""
        own = {name: value for name, value in arm if name not in ("name", "share", "model") and value is not None}
        return self.model_copy(update={"experiment": None, **own})

    def of_arms(self) -> list["Rules"]:
        """Those of each arm."""
        return [] if self.experiment is None else [self.of_arm(arm) for arm in self.experiment.arms]

    def without_experiment(self) -> "Rules":
        """The same where no experiment runs."""
        return self.model_copy(update={"experiment": None})

    def text(self) -> dict[str, Any]:
        """The rules as JSON has them, without what is not said."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"surface": self.surface}

    def version(self) -> str:
        """Names what the rules say: 12 hex digits, the same for the same rules."""
        canonical = json.dumps(self.text(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()

    def say_nothing(self) -> bool:
        """Whether lists are what they are without rules."""
        return self.text().keys() == {"surface"}

    def same_for_block(self) -> bool:
        """Whether what is read for one list of a block of interactions is the same for all of them."""
        item_only = self.filter is None or compile_filter(self.filter).item_only
        whole = any(one.diversity or one.debias for one in (self, *self.of_arms()))
        return item_only and not whole and (self.seen or "allow") in ("allow", "exclude")

    def seen_for_ms(self, exclude_seen: bool = False) -> float:
        """How long an item that a user has taken stays out of the user's lists: 0 never, infinite for ever.

        exclude_seen: the setting, which counts where the rules do not say.
        """
        seen = self.seen or ("exclude" if exclude_seen else "allow")
        fixed = {"allow": 0.0, "exclude": float("inf")}
        return fixed[seen] if seen in fixed else span_ms(seen.removeprefix("after "))


_MEANT = {
    "surface": "write lower-case letters, digits, - and _, such as home",
    "name": "write lower-case letters, digits, - and _, such as variety",
    "per": "write a field of items, such as item.category",
    "unit": "write a field of users, such as user.city",
    "strata": "write a field of users, such as user.country",
    "seen": "write exclude, allow, or for how long, such as after 30d",
}


def first_problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The field of the first thing that is wrong, and what is wrong with it, in one line."""
    first = first_error(error)
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return field, "there is no such field" + did_you_mean(str(first["loc"][-1]), fields_at(model, first["loc"]))
    if first["type"] == "string_pattern_mismatch":
        return field, _MEANT[str(first["loc"][-1])]
    if first["type"] == "tuple_type":
        return field, "it is no array"
    message = first["msg"].removeprefix("Value error, ")
    return field, " ".join(f"{message[:1].lower()}{message[1:]}".split())
