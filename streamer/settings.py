"""Every setting of Freshet, once. The only reader of the environment and of freshet.toml.

Precedence: flag > environment `FRESHET_…` > `freshet.toml` > the default here.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streamer.errors import UsageError
from tgn.config import Part


class Settings(BaseSettings):
    """All settings. `Settings.load(**flags)` is how a command gets them."""

    model_config = SettingsConfigDict(
        env_prefix="FRESHET_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        toml_file="freshet.toml",
    )

    # where events live
    bootstrap: str | None = Field(None, description="Kafka bootstrap servers, HOST:PORT[,HOST:PORT]")
    log: Path | None = Field(
        None, description="folder of the embedded log (default: freshet-log, where no --bootstrap is given)"
    )
    state: Path | None = Field(None, description="folder of the state (default: freshet-state, or LOG/state)")
    application: str = Field("freshet", description="consumer group and prefix of the transactional id")
    kafka: dict[str, str | int | float | bool] = Field(
        {}, description="any librdkafka key, passed through: SASL, TLS, …"
    )

    # topics
    interactions_topic: str = Field("interactions", description="what users do")
    items_topic: str = Field("items", description="attributes of items; a tombstone deletes the item")
    users_topic: str = Field("users", description="attributes of users; a tombstone erases the user")
    recommendations_topic: str = Field("recommendations", description="the newest list of each user")
    feedback_topic: str = Field("feedback", description="impressions and outcomes that quote a list_id")
    quality_topic: str = Field("quality", description="test-then-learn quality as it moves")
    dead_topic: str = Field("interactions.dead", description="records that could not be taken, with the reason")
    epochs_topic: str = Field("freshet.epochs", description="internal: which records each epoch took")

    # records
    field_map: dict[str, str] = Field({}, description="our field = the stream's field, such as user_id = uid")
    event_weights: dict[str, float | Literal["value", "value-mean"]] = Field(
        {"view": 1, "click": 1, "like": 2, "cart": 3, "purchase": 5, "dislike": -1},
        description='weight of each event type; other types weigh 1; "value" takes the record\'s own value, '
        '"value-mean" what it is above the mean of all before it',
    )
    clock_skew_ms: int = Field(300_000, ge=0, description="how far a timestamp may lie in the future, ms")
    max_record_bytes: int = Field(1_000_000, gt=0, description="a larger value is dead-lettered, bytes")
    dedup_window: int = Field(1_000_000, ge=0, description="how many event ids are remembered to drop duplicates")

    # the stream
    commit_interval_ms: int = Field(10, ge=1, description="how long an epoch gathers events before it commits, ms")
    max_epoch_events: int = Field(5_000, ge=1, description="an epoch is cut at this many events")
    checkpoint_interval_ms: int = Field(1_000, ge=1, description="how often the state is written, ms")
    alignment_ms: int = Field(
        250, ge=0, description="how long an empty partition is waited for before the others go on, ms"
    )
    allowed_lateness_ms: int = Field(
        0,
        ge=0,
        description="how late an interaction may be and still take its place in event time, ms",
    )
    too_late: Literal["take", "dead-letter"] = Field(
        "take", description="what happens to a later one: taken in order of arrival, or kept as a dead letter"
    )
    on_position_gone: Literal["stop", "earliest"] = Field(
        "stop", description="what to do where the topic no longer has the next record: end, or take the first there is"
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="how workers share partitions: cooperative-sticky, or KIP-848 where the broker assigns"
    )
    delivery: Literal["exactly-once", "at-least-once"] = Field("exactly-once", description="delivery of lists")

    # lists
    k: int = Field(20, ge=1, le=10_000, description="items in a list")
    exclude_seen: bool = Field(False, description="never list an item that the user has consumed")
    request_context: bool = Field(
        False, description="the device, place and referrer of an interaction are known when its list is asked for"
    )
    surface: str = Field("default", description="name of the place where lists are shown")

    # the model
    seed: int = Field(0, ge=0, description="seed of every random draw")
    every_item_below: int = Field(500, ge=0, description="catalogues up to this many items are scored whole")
    without: tuple[Part, ...] = Field((), description="parts of the model to leave out, for ablations")
    window: int = Field(20, ge=1, le=64, description="events of a user that count as one co-interaction window")

    # embeddings of `freshet train`
    embeddings: Path | None = Field(None, description="folder of trained versions; without one none is used")
    shadow_events: int = Field(
        1_000, ge=0, description="interactions on which a new version is measured before it counts; 0: none"
    )

    # the graph store
    neo4j_user: str = Field("neo4j", description="user of the Neo4j database")
    neo4j_password: str | None = Field(
        None, description="password of that user; none where it asks for none", repr=False
    )

    # the page and the API
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8765, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    api_key: str | None = Field(None, description="when set, requests need the header X-API-Key", repr=False)
    metrics_host: str = Field("127.0.0.1", description="address on which `run` answers /livez, /readyz and /metrics")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="port of the same; without one it does not listen, 0 takes a free one"
    )
    max_body_bytes: int = Field(1_000_000, gt=0, description="largest request body, bytes")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, file: Path | None = None, **flags: Any) -> "Settings":
        """The settings with `flags` on top; a flag that is None was not given. `file` is read instead of freshet.toml.

        Raises UsageError naming each wrong setting, what it got and what it may be, and `file` where it was given.
        """
        source, where = cls, ""
        if file is not None:
            where = f"{file}: "
            if not file.is_file():
                raise UsageError(f"there is no settings file {file}")
            source = type(cls.__name__, (cls,), {"model_config": SettingsConfigDict(toml_file=file)})
        try:
            return source(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            raise UsageError(where + "; ".join(_explain(problem) for problem in error.errors())) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file or 'freshet.toml'} is not valid TOML: {error}") from error


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"there is no setting {name!r}"
    return f"setting {name!r} got {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
