"""Wrong settings: each is named in one line that shows no secret, wherever it comes from; none is passed over."""

import json
from pathlib import Path

import pytest

from streamer.cli.main import main
from streamer.errors import UsageError
from streamer.settings import Settings, is_secret
from tests.waiting import scaled

SECRET = "hunter2-do-not-show"


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    """No variable FRESHET_… and no freshet.toml but the test's own."""
    return tmp_path


@pytest.mark.parametrize(
    "toml",
    [
        f'[kafka]\n"sasl.password" = ["{SECRET}"]',
        f'[kafka]\nsasl.password = "{SECRET}"',
        f'[kafka]\n"ssl.key.password" = {{ x = "{SECRET}" }}',
        f'[kafka]\n"sasl.oauthbearer.client.secret" = ["{SECRET}"]',
        f'neo4j_password = ["{SECRET}"]',
        f'redis_password = ["{SECRET}"]',
        f'api_key = ["{SECRET}"]',
        f'api_key = {{ x = "{SECRET}" }}',
        f'kafka = "{SECRET}"',
        f'kafka = ["{SECRET}"]',
        f'k = ["{SECRET}"]',
        f'[kafka]\n"sasl.password" = "{SECRET}"\nx = [1]\n[event_weights]\nview = "{SECRET[:3]}"',
    ],
)
def test_a_secret_of_the_wrong_type_is_named_and_not_shown(
    toml: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "freshet.toml").write_text(toml)
    assert main(["topics", "list", "--log", "log"]) == 2
    said = capsys.readouterr().err
    assert SECRET not in said
    assert said.startswith("freshet: setting '")
    assert said.count("\n") == 1


def test_no_secret_stands_in_the_error_that_a_caller_logs() -> None:
    with pytest.raises(UsageError) as raised:
        Settings.load(api_key=[SECRET])
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True), ("neo4j_password", True), ("redis_password", True), ("kafka.sasl.password", True), ("kafka.ssl.key.password", True),
        ("kafka.ssl.key.pem", True), ("kafka.sasl.oauthbearer.client.secret", True), ("kafka.sasl.username", False),
        ("kafka.ssl.ca.location", False), ("k", False), ("port", False), ("kafka.sasl.mechanism", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_secret(name: str, secret: bool) -> None:
    assert is_secret(name) == secret


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FRESHET_KAFKA", "{oops", "FRESHET_KAFKA is no JSON object"),
        ("FRESHET_KAFKA", f'["{SECRET}"]', "setting 'kafka' got a value that is not shown"),
        ("FRESHET_EVENT_WEIGHTS", "view=1", "FRESHET_EVENT_WEIGHTS is no JSON object"),
        ("FRESHET_EXCLUDE_SEEEN", "true", "did you mean 'exclude_seen'"),
        ("freshet_kk", "5", "there is no setting 'kk'"),
        ("FRESHET_KAFAK__SASL.PASSWORD", SECRET, "did you mean 'kafka'"),
        ("FRESHET_K", "many", "setting 'k' got 'many'"),
        ("FRESHET_PORT", "tcp://10.1.2.3:8765", "which Kubernetes sets for a service named freshet"),
        ("FRESHET_API_KEY__X", SECRET, "api_key"),
        ("FRESHET_KAFKA", '{"a":' + "[" * 50_000, "nested too deep"),
    ],
)
def test_a_variable_that_is_wrong_is_said_in_one_line(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["topics", "list", "--log", "log"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert SECRET not in said
    assert said.count("\n") == 1


def test_what_kubernetes_sets_for_a_service_of_this_name_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8765_TCP", "PORT_8765_TCP_ADDR"):
        monkeypatch.setenv(f"FRESHET_{name}", "10.1.2.3")
    assert Settings.load().k == 20


@pytest.mark.parametrize("key", ["bootstrap.servers", "metadata.broker.list"])
def test_brokers_that_the_table_kafka_names_are_the_brokers(key: str, folder: Path) -> None:
    (folder / "freshet.toml").write_text(f'[kafka]\n"{key}" = "a:1"\n"client.id" = "me"\n')
    settings = Settings.load()
    assert (settings.bootstrap, settings.kafka) == ("a:1", {"client.id": "me"})
    assert Settings.load(bootstrap="b:2").bootstrap == "b:2"
    assert Settings.load(log="folder").bootstrap is None  # a flag asks for the folder


def test_a_broker_and_a_folder_are_not_asked_for_at_once() -> None:
    with pytest.raises(UsageError, match="choose one"):
        Settings.load(log="folder", bootstrap="a:1")


@pytest.mark.parametrize(
    "toml",
    [
        "k = true", "port = false", "clock_skew_ms = true", "max_weight = true", "metrics_port = true",
        'bootstrap = "user:hunter2@host:9092"', 'bootstrap = "host:99999"', 'bootstrap = "host 9092"', 'bootstrap = ""',
    ],
)  # fmt: skip
def test_what_looks_like_a_number_or_a_broker_and_is_none(
    toml: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "freshet.toml").write_text(toml)
    assert main(["topics", "list"]) == 2
    said = capsys.readouterr().err
    assert f"setting '{toml.partition(' ')[0]}' got" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "brokers", ["host:9092", "a:1,b-2.example:65535", "[::1]:9092", "PLAINTEXT://h:1", "localhost"]
)
def test_brokers_as_librdkafka_takes_them(brokers: str) -> None:
    assert Settings.load(bootstrap=brokers).bootstrap == brokers


@pytest.mark.parametrize("command", [["tail", "quality"], ["checkpoint", "verify"], ["erase", "u"]])
def test_who_only_looks_makes_no_log(command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--log", "typo"]) == 1
    assert "there is no log in typo" in capsys.readouterr().err
    assert not (folder / "typo").exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"sasl.pasword": SECRET}, '"sasl.pasword"'),
        ({"ssl.ca.location": "nowhere.pem", "security.protocol": "ssl"}, "ssl.ca.location names nowhere.pem"),
        ({"security.protocol": "sasl_plaintext", "sasl.mechanism": "FOO"}, "Unsupported SASL mechanism: FOO"),
        ({"security.protocol": "sasl"}, '"security.protocol"'),
        ({"session.timeout.ms": "long"}, '"session.timeout.ms"'),
        ({"session.timeout.ms": 1 << 40}, "session.timeout.ms"),
        ({"acks": "some"}, "acks"),
    ],
)
@pytest.mark.parametrize("command", [["tail", "quality"], ["run"], ["topics", "create"], ["serve"], ["doctor"]])
def test_what_librdkafka_does_not_take_is_said_in_one_line(
    command: list[str], table: dict[str, object], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'"{name}" = {value if isinstance(value, int) else repr(value)}' for name, value in table.items()]
    (folder / "freshet.toml").write_text("[kafka]\n" + "\n".join(lines))
    code = main([*command, "--bootstrap", "127.0.0.1:1"])
    told = capsys.readouterr()
    said = told.out if command == ["doctor"] else told.err
    assert code == (1 if command == ["doctor"] else 2)
    assert says in said
    assert SECRET not in said
    assert command == ["doctor"] or said.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith("_topic")])
def test_no_topic_is_for_two_kinds_of_record(name: str, folder: Path) -> None:
    other = "quality_topic" if name != "quality_topic" else "items_topic"
    (folder / "freshet.toml").write_text(f'{name} = "same"\n{other} = "same"\n')
    with pytest.raises(UsageError, match="are both 'same': each needs a topic of its own"):
        Settings.load()


def test_a_name_that_no_resolver_knows_is_the_reason_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.kafka.log.START_TIMEOUT_S", scaled(10))
    assert main(["tail", "quality", "--bootstrap", "nowhere.invalid:9092"]) == 1
    assert "resolve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "key", "value", "default"),
    [("event_weights", "Purchase", "7", ("dislike", -1)), ("feedback_events", "buy", "conversion", ("click", "click"))],
)
def test_who_names_one_key_of_a_table_keeps_the_others(
    name: str, key: str, value: str, default: tuple[str, object], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file, as a variable, one key or all in JSON, and as a flag: all of them say the same."""

    def by_file() -> Settings:
        Path("freshet.toml").write_text(
            f"[{name}]\n{key} = {json.dumps(value) if name == 'feedback_events' else value}\n"
        )
        return Settings.load()

    def by_variable(variable: str, text: str) -> Settings:
        Path("freshet.toml").unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setenv(variable, text)
            return Settings.load()

    table = json.dumps({key: value if name == "feedback_events" else int(value)})
    found = [by_file(), by_variable(f"FRESHET_{name.upper()}", table), Settings.load(**{name: json.loads(table)})]
    whole = [getattr(one, name) for one in found]
    assert whole[0] == whole[1] == whole[2]
    assert whole[0][key] == (float(value) if name == "event_weights" else value)
    assert whole[0][default[0]] == default[1]
    assert "purchase" not in whole[0] or name == "feedback_events"  # a type is one without regard to case


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            "allowed_lateness_ms = 99999999999999999999",
            "'allowed_lateness_ms' got 99999999999999999999: input should be",
        ),
        ("event_weights = {view = true}", "'event_weights' got a table: input should be a number, not true or false"),
        ("append_timeout_s = inf", "'append_timeout_s' got inf: input should be a finite number"),
        ("max_weight = inf", "'max_weight' got inf: input should be a finite number"),
        ('interactions_topic = ""', "'interactions_topic' got '': a topic is named with"),
        ('items_topic = "a b"', "'items_topic' got 'a b': a topic is named with"),
        ('users_topic = ".."', "'users_topic' got '..': a topic is named with"),
        ('state = ""', "'state' got '': input is empty: name a path, or leave the setting out"),
        ('api_key_file = ""', "'api_key_file' got a value that is not shown: input is empty"),
        ('field_map = {user_id = " "}', "'field_map' got a table: user_id = nothing: name the field of the stream"),
    ],
)
def test_what_could_not_work_is_refused_by_its_name(
    toml: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("freshet.toml").write_text(toml)
    with pytest.raises(UsageError) as refused:
        Settings.load()
    assert str(refused.value).startswith(f"setting {said}")


def test_a_folder_in_place_of_the_file_and_a_variable_without_its_part_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("freshet.toml").mkdir()
    with pytest.raises(UsageError, match=r"^freshet.toml is a folder"):
        Settings.load()
    Path("freshet.toml").rmdir()
    monkeypatch.setenv("FRESHET_KAFKA__", "x")
    with pytest.raises(UsageError, match="FRESHET_KAFKA__ names no part of 'kafka' after __"):
        Settings.load()
