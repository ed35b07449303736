"""Records of others on every topic that anything reads: they are passed over, whoever reads them, at every start."""

import json
from pathlib import Path

import pytest

from consumers.errors import PositionGone
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.runtime.topics import read_records, topic_names, whole
from streamer.settings import Settings
from tests.scenarios.test_worker import run, send
from tests.worlds import checkerboard

FOREIGN = [
    b"hello", b"{}", b"[]", b"null", b"5", b'""', b"", b"\xff\xfe", b"\0\0\0\0\1x", b'{"epoch": 1}', b'{"epoch": "x", "ends": 5}',
    b'{"surface": 5}', b'{"surface": "default", "filter": "((("}', b'{"seat": "a", "incarnation": "x", "instance": 5}',
    b'{"metric": 5, "value": "x"}', b'{"metric": "business/x", "value": 1e999}', b'{"list_id": 5, "user_id": [], "items": {}}',
    b'{"list_id": "y", "user_id": "u1", "surface": "default", "items": [{"item_id": "i1", "score": 1, "source": "s", "reason": "r"}], '
    b'"as_of": {"timestamp": 18446744073709551615, "positions": {}}, "model_version": "m"}',
    b'{"list_id": "x", "user_id": "u1", "items": [{"item_id": null}]}', b'{"name": "exp", "arms": 5}', b'{"merge": "s"}',
    b'{"a":' * 3_000, b"[" * 3_000, b'{"context":' + b"[" * 3_000 + b"]" * 3_000 + b"}", b"9" * 5_000, None,
]  # fmt: skip
KEYS = [
    None,
    b"",
    b"default",
    b"u1",
    b"drift",
    b"business/default/none/ctr",
    b"business/",
    b"\xff",
    b"exp",
    b"x/address",
]


def send_foreign(settings: Settings) -> None:
    """Each of them on each topic but that of interactions, whose bad records are dead letters."""
    assert settings.log
    with OwnedLog(Path(settings.log)) as log:
        for topic in {*topic_names(settings).values()} - {settings.interactions_topic}:
            is_dead = topic == settings.dead_topic  # those of items and users are dead letters of their own keys
            log.append([NewRecord(topic, b"x" if is_dead else KEYS[n % 10], value) for n, value in enumerate(FOREIGN)])


def test_they_stop_no_command(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--log", str(settings.log)]

    def ran(*command: str) -> str:
        assert main([*command, *here]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    rows = [f"u{n % 7},i{n * n % 11},view,{1_700_000_000_000 + n}" for n in range(120)]
    for name, part in (("a", rows[:60]), ("b", rows[60:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["user_id,item_id,event_type,timestamp", *part]))
    ran("topics", "create", "--partitions", "2")
    ran("produce", str(tmp_path / "a.csv"))
    ran("run", "--exit-at-end")
    send_foreign(settings)
    ran("produce", str(tmp_path / "b.csv"))
    for _ in range(2):
        ran("run", "--exit-at-end")
        send_foreign(settings)
    for topic in topic_names(settings).values():
        for line in ran("tail", topic, "--exit-at-end").splitlines():
            json.loads(line)
    main(["checkpoint", "verify", "--replay", "--json", *here])  # it names what it does not know
    found = json.loads(capsys.readouterr().out)
    assert (found["lost"], found["doubled"], found["interactions"]) == (0, 0, 120)
    assert "epochs" in ran("doctor")
    ran("rules", "ls")
    ran("experiment", "status")
    ran("run", "feedback", "--exit-at-end")
    ran("export", str(tmp_path / "lists.parquet"))
    ran("export", str(tmp_path / "newest.parquet"), "--newest")
    ran("checkpoint", "rebuild")
    ran("run", "--exit-at-end")


FORGED: dict[str, dict[str, dict[str, int]]] = {
    "past the end": {"interactions": {"0": 1_000}},
    "before the start": {"interactions": {"0": -5}},
    "no such partition": {"interactions": {"7": 5}},
    "no such topic": {"nowhere": {"0": 5}},
    "an output": {"recommendations": {"0": 1}},
    "no offset at all": {"interactions": {"0": 1 << 62}},
}


@pytest.mark.parametrize("ends", FORGED.values(), ids=FORGED)
def test_an_epoch_that_took_what_the_log_has_not_ends_a_worker_in_one_line(
    settings: Settings, log: OwnedLog, ends: dict[str, dict[str, int]]
) -> None:
    """Nobody can tell whether the log lost records or somebody else wrote it: to guess would lose or double records."""
    send(log, checkerboard(events=30))
    run(log, settings)
    *_, last = read_records(log, whole(log, settings.epochs_topic))
    manifest = json.loads(last.value or b"")
    forged = json.dumps(manifest | {"epoch": manifest["epoch"] + 1, "ends": ends}).encode()
    log.append([NewRecord(settings.epochs_topic, last.key, forged, last.headers)])
    before = log.ends(settings.recommendations_topic)
    [topic] = ends
    said = rf"epoch {manifest['epoch'] + 1} in freshet.epochs says that it took {topic}\[.*only workers may write to freshet.epochs"
    for _ in range(2):  # whatever the state has
        with pytest.raises(PositionGone, match=said) as refused:
            run(log, settings)
        assert "\n" not in str(refused.value)
    assert log.ends(settings.recommendations_topic) == before
