"""Every setting of Freshet, once. The only reader of the environment and of freshet.toml.

Precedence: flag > environment `FRESHET_…` > `freshet.toml` > the default here.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from consumers.event_weights import MAX_WEIGHT, Weight
from consumers.files.names import wrong_left_side
from streamer.errors import UsageError
from streamer.near_names import did_you_mean
from tgn.config import Part

PREFIX = "FRESHET_"
SECRET = re.compile(
    r"password|passphrase|secret|token|credential|api_key|user\.info|jaas|private|\.key\b|\.pem\b|oauth", re.IGNORECASE
)
OF_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP)")  # it sets these for a service named freshet
BROKER = re.compile(r"(\w+://)?(\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?")
NAMESPACE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
TABLES, ADDRESSES = ("kafka", "schema_registry_config"), ("bootstrap", "schema_registry")  # where passwords may stand
MOST = 1 << 53
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")  # what Kafka takes
BROKERS = ("bootstrap.servers", "metadata.broker.list")  # two names that librdkafka has for `bootstrap`


class Settings(BaseSettings):
    """All settings. `Settings.load(**flags)` is how a command gets them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        toml_file="freshet.toml",
        allow_inf_nan=False,
    )

    # where events live
    bootstrap: str | None = Field(None, description="Kafka bootstrap servers, HOST:PORT[,HOST:PORT]")
    log: Path | None = Field(
        None, description="folder of the embedded log (default: freshet-log, where no --bootstrap is given)"
    )
    state: Path | None = Field(None, description="folder of the state (default: freshet-state, or LOG/state)")
    application: str = Field(
        "freshet", description="name of the application: its consumer group, and the prefix of its transactional ids"
    )
    namespace: str = Field(
        "",
        pattern=f"^({NAMESPACE})?$",
        description="what the names of the application and its topics begin with, NAME.interactions and so on: several "
        "applications beside one another, each with a state of its own",
    )
    kafka: dict[str, str | int | float | bool] = Field({}, description="librdkafka keys, passed through: SASL, TLS, …")

    # topics
    interactions_topic: str = Field("interactions", description="topic of what users do")
    items_topic: str = Field("items", description="topic of items and their attributes; a tombstone deletes the item")
    users_topic: str = Field("users", description="topic of users and their attributes; a tombstone erases the user")
    recommendations_topic: str = Field("recommendations", description="topic of the newest list of each user")
    feedback_topic: str = Field("feedback", description="topic of impressions and outcomes that quote a list_id")
    quality_topic: str = Field("quality", description="topic of test-then-learn quality as it moves")
    dead_topic: str = Field(
        "interactions.dead", description="topic of records that could not be taken, with the reason"
    )
    epochs_topic: str = Field("freshet.epochs", description="internal topic: which records each epoch took")
    workers_topic: str = Field(
        "freshet.workers", description="internal topic: which process has which seat, and where workers answer"
    )
    observed_topic: str = Field(
        "freshet.observed", description="internal topic: what each worker admitted, so that the others observe it"
    )
    model_topic: str = Field(
        "freshet.model", description="internal topic: what each worker learned, so that the others add it"
    )
    rules_topic: str = Field("freshet.rules", description="topic of the rules of each surface")
    experiments_topic: str = Field("freshet.experiments", description="topic of the experiments, by name")
    lists_topic: str = Field("freshet.lists", description="topic of every list that left, asked for or published")
    keep_lists: bool = Field(
        True, description="write each published list to the topic of lists too, in the transaction that publishes it"
    )

    # records
    field_map: dict[str, str] = Field(
        {}, description="names of fields in the stream, ours = theirs, such as user_id = uid"
    )
    schema_registry: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")] | None = Field(
        None,
        description="address of the schema registry whose schemas framed records are read by, such as "
        "http://localhost:8081; several with commas between",
    )
    schema_registry_config: dict[str, str | int | float | bool] = Field(
        {},
        description="keys of confluent-kafka's SchemaRegistryClient, passed through: basic.auth.user.info, "
        "ssl.ca.location, …",
    )
    max_weight: float = Field(
        MAX_WEIGHT,
        gt=0,
        le=1e9,
        description="largest amount of an interaction's weight; an interaction of a larger one is dead-lettered",
    )
    event_weights: dict[str, Weight] = Field(
        {"view": 1, "click": 1, "like": 2, "cart": 3, "purchase": 5, "dislike": -1},
        description='weight of each event type, beside these; other types weigh 1; "value" is the record\'s own value, '
        '"value-mean" what that is above the mean of all before it',
    )
    clock_skew_ms: int = Field(
        300_000,
        ge=0,
        description="how far in the future a timestamp may lie, ms; beyond it the record is dead-lettered",
    )
    max_record_bytes: int = Field(
        1_000_000, gt=0, description="largest value of a record, bytes; a larger one is dead-lettered"
    )
    dedup_window: int = Field(
        1_000_000, ge=0, description="number of event ids that are remembered, so that a duplicate is dropped"
    )

    # the stream
    commit_interval_ms: int = Field(
        10, ge=1, description="time for which an epoch gathers events before it commits, ms"
    )
    max_epoch_events: int = Field(5_000, ge=1, description="largest number of events in an epoch")
    checkpoint_interval_ms: int = Field(
        10_000,
        ge=1,
        description="time between two checkpoints of the state, ms; a fifth of it where 2,000 interactions came",
    )
    alignment_ms: int = Field(250, ge=0, description="longest wait for an empty partition before the others go on, ms")
    allowed_lateness_ms: int = Field(
        0,
        ge=0,
        description="lateness up to which an interaction still takes its place in event time, ms",
    )
    too_late: Literal["take", "dead-letter"] = Field(
        "take",
        description="what happens to an interaction that is later: it is taken in order of arrival, or kept as a dead "
        "letter",
    )
    on_position_gone: Literal["stop", "earliest"] = Field(
        "stop",
        description="what happens where the topic no longer has the next record: end, or go on with the first there is",
    )
    on_log_damaged: Literal["stop", "accept"] = Field(
        "stop",
        description="what happens where records of the embedded log are lost, since a file of it was changed or is "
        "missing: end, or go on with a copy of what can be read",
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic",
        description="protocol by which workers share partitions: cooperative-sticky (classic), or KIP-848, where the "
        "broker assigns them (consumer)",
    )
    observe: bool = Field(
        True,
        description="observe what the other workers of the application take, add what they learn, and tell them the "
        "same of this one; Kafka",
    )
    delivery: Literal["exactly-once", "at-least-once"] = Field(
        "exactly-once", description="delivery guarantee of published lists"
    )

    # lists
    k: int = Field(20, ge=1, le=10_000, description="number of items in a list")
    publish_distance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="distance from the published list above which a new one is published, as one minus the rank-biased "
        "overlap; 0: any change",
    )
    age_after_s: list[Annotated[float, Field(gt=0)]] = Field(
        [3_600.0, 21_600.0, 86_400.0, 259_200.0],
        min_length=1,
        description="later times at which a published list is scored again, to see when it is to be made anew, s",
    )
    age_distance: float = Field(
        0.1, ge=0, lt=1, description="distance that a list has from what it would be when it is made anew, likewise"
    )
    ageing_share: float = Field(
        0.05, ge=0, le=0.5, description="share of the time in which a worker looks when lists age; 0: they do not"
    )
    exclude_seen: bool = Field(False, description="leave out of lists what the user has consumed")
    request_context: bool = Field(
        False,
        description="make a list with the device, place and referrer of its interaction, which are known when it is "
        "asked for",
    )
    surface: str = Field("default", description="name of the place where lists are shown")

    # what came of lists
    feedback_events: dict[str, Literal["impression", "click", "conversion", "engagement", "return"]] = Field(
        {
            "impression": "impression",
            "click": "click",
            "purchase": "conversion",
            "conversion": "conversion",
            "dwell": "engagement",
            "engagement": "engagement",
            "return": "return",
        },
        description="what each event of feedback is, beside these: impression, click, conversion, engagement (its "
        "value is a time, s) or return; other events are counted, and change no figure",
    )
    attribution: Literal["quoted", "last-touch", "position"] = Field(
        "last-touch",
        description="which lists a conversion is credited to: the one that it quotes (quoted), the one on which the "
        "user clicked the item last (last-touch), or all of these, the more the higher the item stood (position)",
    )
    attribution_window_s: float = Field(
        2_592_000.0, gt=0, description="time for which a list, or a click on it, can be credited with what follows, s"
    )
    feedback_lateness_s: float = Field(
        604_800.0, gt=0, description="lateness up to which feedback is counted, s; later it is dead-lettered"
    )
    feedback_window_s: float = Field(
        86_400.0, ge=1, description="width of the windows in which feedback is counted beside the totals, s"
    )

    # the model
    seed: int = Field(0, ge=0, description="seed of every random draw")
    every_item_below: int = Field(500, ge=0, description="largest catalogue that is scored whole, items")
    without: tuple[Part, ...] = Field((), description="parts of the model to leave out, for ablations")
    window: int = Field(
        20,
        ge=1,
        le=64,
        description="number of a user's last interactions that a new one is related to, as taken along with it",
    )

    # embeddings of `freshet train`
    embeddings: Path | None = Field(None, description="folder of trained versions; without one none is used")
    shadow_events: int = Field(
        1_000,
        ge=0,
        description="number of interactions on which a new version is measured before it counts; 0: it counts at once",
    )

    # what a command says of its work
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="least level of the lines on stderr (default: info for `run`, `serve`, `sink`, else warning)"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="form of the lines on stderr: for people, or a JSON object each"
    )

    # the graph store
    neo4j_user: str = Field("neo4j", description="user of the Neo4j database")
    neo4j_password: str | None = Field(
        None, description="password of the Neo4j user; none where the database asks for none", repr=False
    )

    # the key-value store
    redis_user: str | None = Field(None, description="user of the Redis; none where it has but one")
    redis_password: str | None = Field(
        None, description="password of the Redis; none where it asks for none", repr=False
    )
    redis_prefix: str = Field("freshet:", description="what each key in Redis begins with")

    # the page and the API
    host: str = Field("127.0.0.1", description="address that the API and the page listen on")
    port: int = Field(8765, ge=0, le=65_535, description="port that the API and the page listen on; 0: a free one")
    api_key: str | None = Field(
        None,
        pattern="^[!-~]+$",
        description="key that may do everything, in the header `Authorization: Bearer KEY` or `X-API-Key: KEY`; the "
        "flag shows it in the list of processes, the environment and `api_key_file` do not",
        repr=False,
    )
    api_key_file: Path | None = Field(
        None, description="file of keys, one a line, each with its scopes behind it: read, write, admin (default: all)"
    )
    tls_certificate: Path | None = Field(
        None,
        description="PEM file of the certificate by which `serve` answers HTTPS, with those that lead to its root "
        "behind it; without one it answers HTTP. A renewed one is taken within seconds",
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the private key of that certificate (default: it is in the same file)"
    )
    tls_key_password: str | None = Field(None, description="password of that key, where it is encrypted", repr=False)
    health_public: bool = Field(True, description="answer /livez and /readyz of `serve` without a key")
    metrics_public: bool | None = Field(
        None, description="answer /metrics of `serve` without a key (default: where it listens on loopback)"
    )
    allowed_hosts: list[str] = Field(
        [], description="further names that the header Host of a request to `serve` may have"
    )
    cors_origins: list[Annotated[str, Field(pattern=r"^https?://[^/\s]+/?$")]] = Field(
        [], description="origins, such as https://shop.example, whose pages may use the API; none by default"
    )
    request_timeout_s: float = Field(
        20.0, gt=0, description="longest time that a client may take for the headers, and for the body, of a request, s"
    )
    append_timeout_s: float = Field(
        4.0, gt=0, description="longest wait of `serve` for the log before it answers 503, s; many clients wait for 5"
    )
    max_streams: int = Field(
        1_000,
        ge=0,
        description="largest number of open event streams and WebSockets; fewer where the limit of open files leaves "
        "less room",
    )
    metrics_host: str = Field("127.0.0.1", description="address on which `run` answers /livez, /readyz and /metrics")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port on which `run` answers these; without one it does not listen, 0: a free one",
    )
    api_host: str = Field("127.0.0.1", description="address on which `run` answers questions")
    api_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port on which `run` answers for the users of its partitions; without one it does not listen, "
        "0: a free one",
    )
    api_address: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+$",
        description="address at which `serve` reaches this worker, such as http://worker-3:8766 (default: the one that "
        "it listens on)",
    )
    namespaces: dict[Annotated[str, Field(pattern=f"^{NAMESPACE}$")], str] = Field(
        {},
        description="namespaces that `serve` answers for under /ns/NAME too, each with its own api_key_file; without "
        "keys where that is empty",
    )
    max_body_bytes: int = Field(1_000_000, gt=0, description="largest body of a request, bytes")

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """A number that is `true` is a mistake, not 1; a path of no characters is one too, not this folder."""
        kind = cls.model_fields[str(info.field_name)].annotation
        weighs = (
            info.field_name == "event_weights" and isinstance(value, dict) and True in map(_is_truth, value.values())
        )
        if weighs or (_is_truth(value) and {int, float} & {kind, *get_args(kind)}):
            raise ValueError("input should be a number, not true or false")
        if value == "" and Path in get_args(kind):
            raise ValueError("input is empty: name a path, or leave the setting out")
        return value

    @field_validator("*")
    @classmethod
    def _check_size(cls, value: Any, info: ValidationInfo) -> Any:
        """What is added to times and counts stays within 64 bits."""
        if type(value) is int and value > MOST and info.field_name != "seed":
            raise ValueError(f"input should be less than or equal to {MOST}")
        return value

    @field_validator("bootstrap")
    @classmethod
    def _check_brokers(cls, brokers: str | None) -> str | None:
        for broker in brokers.split(",") if brokers is not None else ():
            address = BROKER.fullmatch(broker.strip())
            if address is None or int(address["port"] or 9092) > 65_535:
                raise ValueError("input should be HOST:PORT[,HOST:PORT]; user and password belong in the table [kafka]")
        return brokers

    @field_validator("field_map")
    @classmethod
    def _check_map(cls, field_map: dict[str, str]) -> dict[str, str]:
        if wrong := wrong_left_side(list(field_map)):
            raise ValueError(wrong)
        if empty := [ours for ours, theirs in field_map.items() if not theirs.strip()]:
            raise ValueError(f"{empty[0]} = nothing: name the field of the stream, {empty[0]}=THEIRS")
        return field_map

    @field_validator("event_weights", "feedback_events", mode="before")
    @classmethod
    def _keep_defaults(cls, table: Any, info: ValidationInfo) -> Any:
        """Who names one type says nothing of the others. A type of the weights is one without regard to case."""
        if not isinstance(table, dict):
            return table
        assert info.field_name is not None
        alike: Callable[[str], str] = str.casefold if info.field_name == "event_weights" else str
        named = {alike(name) for name in table}
        default = cls.model_fields[info.field_name].default
        return {name: value for name, value in default.items() if alike(name) not in named} | table

    @field_validator("event_weights")
    @classmethod
    def _check_weights(cls, weights: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        most = info.data.get("max_weight", MAX_WEIGHT)
        bad = [name for name, weight in weights.items() if not isinstance(weight, str) and not abs(weight) <= most]
        if bad:
            raise ValueError(f"the weight of {', '.join(bad)} is no number from -{most:g} to {most:g} (max_weight)")
        return weights

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

    @model_validator(mode="before")
    @classmethod
    def _one_address(cls, data: Any) -> Any:
        """Brokers that only the table [kafka] names are `bootstrap`; where both name some, `bootstrap` wins."""
        table = data.get("kafka")
        if not isinstance(table, dict) or not table.keys() & set(BROKERS):
            return data
        named = [table[name] for name in BROKERS if name in table]
        rest = {name: value for name, value in table.items() if name not in BROKERS}
        return data | {"kafka": rest, "bootstrap": data.get("bootstrap") or named[0]}

    @classmethod
    def load(cls, file: Path | None = None, **flags: Any) -> "Settings":
        """The settings with `flags` on top; a flag that is None was not given. `file` is read instead of freshet.toml.

        A flag `log` asks for the embedded log, whatever else names brokers.

        Raises UsageError naming each wrong setting, what it got and what it may be, and `file` where it was given. The
        value of a secret is never shown.

        >>> _ = Path("freshet.toml").write_text("k = 5")
        >>> Settings.load().k, Settings.load(k=7).k
        (5, 7)
        >>> Settings.load(k=0)
        Traceback (most recent call last):
        streamer.errors.UsageError: setting 'k' got 0: input should be greater than or equal to 1
        """
        source, where = cls, ""
        if file is not None:
            where = f"{file}: "
            if not file.is_file():
                raise UsageError(f"there is no settings file {file}")
            source = type(cls.__name__, (cls,), {"model_config": SettingsConfigDict(toml_file=file)})
        elif Path("freshet.toml").is_dir():
            raise UsageError("freshet.toml is a folder; settings stand in a file of this name")
        given = {name: value for name, value in flags.items() if value is not None}
        if given.keys() >= {"log", "bootstrap"}:
            raise UsageError(
                "both --bootstrap and --log were given: events live on a broker or in a folder, choose one"
            )
        _refuse_unknown_variables(cls.model_fields)
        try:
            settings = source(**given)
        except ValidationError as error:
            raise UsageError(where + "; ".join(_explain(error.errors()))) from None  # its text quotes the values
        except SettingsError as error:
            raise UsageError(f"{where}{_unreadable(error)}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file or 'freshet.toml'} is not valid TOML: {error}") from None
        except RecursionError:
            raise UsageError(f"{where}a setting is nested too deep") from None
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
        settings._check_topics()
        settings = settings._with_names_of_namespace()
        return settings.model_copy(update={"bootstrap": None}) if "log" in given else settings

    def in_namespace(self, name: str, keys: str) -> "Settings":
        """These settings for a namespace of another name, which has its own keys. keys: its api_key_file, or ""."""
        own = {"namespace": name, "api_key": None, "api_key_file": Path(keys) if keys else None}
        return self.model_copy(update=own)._with_names_of_namespace()

    def _with_names_of_namespace(self) -> "Settings":
        if not self.namespace:
            return self
        named = ["application", *(name for name in type(self).model_fields if name.endswith("_topic"))]
        names: dict[str, Any] = {name: f"{self.namespace}.{getattr(self, name)}" for name in named}
        state = None if self.state is None else self.state / self.namespace
        return self.model_copy(update={**names, "state": state})

    def _check_topics(self) -> None:
        """Raises UsageError for a name that is none, and where one topic is to hold two kinds of record.

        A worker would read its own lists.
        """
        taken: dict[str, str] = {}
        for name in (name for name in type(self).model_fields if name.endswith("_topic")):
            topic = getattr(self, name)
            if not TOPIC.fullmatch(topic) or topic in (".", ".."):
                raise UsageError(
                    f"setting {name!r} got {topic!r}: a topic is named with 1 to 249 letters, digits, '.', '_' and '-'"
                )
            if topic in taken:
                raise UsageError(f"{taken[topic]} and {name} are both {topic!r}: each needs a topic of its own")
            taken[topic] = name


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def variable_of(name: str) -> str | None:
    """The environment variable that gives a setting, or a part of it."""
    mine = f"{PREFIX}{name.upper()}"
    return next((v for v in sorted(os.environ) if v.upper() == mine or v.upper().startswith(f"{mine}__")), None)


def is_secret(name: str) -> bool:
    """Whether the value of a setting, `api_key` or `kafka.sasl.password`, is never to be shown."""
    return bool(SECRET.search(name))


def _refuse_unknown_variables(known: Mapping[str, FieldInfo]) -> None:
    """Raises UsageError for a variable FRESHET_… that is no setting: a typo would change nothing, silently."""
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or OF_KUBERNETES.match(name):
            continue
        field, nested, _ = name.lower().partition("__")
        if field not in known:
            where = f"which the environment variable {variable} names"
            raise UsageError(f"there is no setting {field!r}, {where}{did_you_mean(field, known)}")
        if variable.endswith("__") and field in known:
            raise UsageError(f"the environment variable {variable} names no part of {field!r} after __")
        if nested and get_origin(known[field].annotation) is not dict:
            raise UsageError(f"the environment variable {variable} names a part of {field!r}, which has none")


def _unreadable(error: SettingsError) -> str:
    """What is wrong with a variable that holds no JSON; its text is not shown."""
    field = re.search(r'"(\w+)"', str(error))
    name = field[1] if field else "?"
    return (
        f"the environment variable {PREFIX}{name.upper()} is no JSON object; "
        f'write {PREFIX}{name.upper()}=\'{{"key": "value"}}\', or one variable a key: {PREFIX}{name.upper()}__key=value'
    )


def _explain(problems: Iterable[Any]) -> list[str]:
    """A line for each setting that is wrong."""
    told: dict[str, list[str]] = {}
    for problem in problems:
        place = [str(part) for part in problem["loc"]]
        field = Settings.model_fields.get(place[0])
        if field is not None and len(place) > 2:
            place = place[:2]  # what follows names the types that the value might have had
        name = ".".join(place)
        if place[0] in TABLES and isinstance(problem["input"], dict):
            told[name] = [f'setting {name!r} got a table: write the whole key in quotes, such as "sasl.password" = "…"']
            continue
        if problem["type"] == "extra_forbidden":
            told[name] = [f"there is no setting {name!r}{did_you_mean(name, Settings.model_fields)}"]
            continue
        got = _shown(name, problem["input"])
        said = problem["msg"].removeprefix("Value error, ")
        message = f"{said[0].lower()}{said[1:]}"
        lines = told.setdefault(name, [f"setting {name!r} got {got}: {message}"])
        if message not in lines[0]:
            lines.append(message)
    return [", or ".join(lines) for lines in told.values()]


def _shown(name: str, value: Any) -> str:
    if is_secret(name) or name in TABLES or (name in ADDRESSES and "@" in str(value)):
        return "a value that is not shown"
    if isinstance(value, dict | list | tuple):
        return f"a {'table' if isinstance(value, dict) else 'list'}"
    if name == "port" and str(value).startswith("tcp://"):
        return f"{value!r}, which Kubernetes sets for a service named freshet (enableServiceLinks: false stops it)"
    return repr(value)[:200]
