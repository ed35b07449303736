"""Who may read what commands write: logs, states and checkpoints this user alone, results as the user wants them."""

import stat
from pathlib import Path

import pytest

from tests.faults import victim
from tests.faults.forked import Forked
from tests.faults.test_loopback import readable_by_others
from tests.topic_names import topics_under
from tests.waiting import ended


def freshet(folder: Path, *words: str) -> None:
    """A command in a process whose mask lets everybody read."""
    process = Forked(victim.command, words, 0o022, cwd=folder, log=folder / "said")
    assert ended(process, said=process.said) == 0, process.said()


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(
        "user_id,item_id,event_type,timestamp\n" + "".join(f"u{n % 9},i{n % 7},view,{n}\n" for n in range(200))
    )
    return tmp_path


def test_a_log_a_state_and_an_export_are_private_and_results_are_not(rows: Path) -> None:
    freshet(rows, "topics", "create", "--partitions", "1")
    freshet(rows, "produce", "rows.csv")
    freshet(rows, "run", "--exit-at-end", "--lists-out", "lists.parquet")
    freshet(rows, "checkpoint", "export", "state.parquet")
    freshet(rows, "replay", "interactions", "--log", "freshet-log", "--lists-out", "replayed.parquet")
    assert readable_by_others(rows / "freshet-log") == []
    assert (mode(rows / "state.parquet"), mode(rows / "freshet-log")) == (0o600, 0o700)
    assert (mode(rows / "lists.parquet"), mode(rows / "replayed.parquet")) == (0o644, 0o644)


def test_what_lies_in_a_log_of_before_is_private_from_now_on(rows: Path) -> None:
    freshet(rows, "topics", "create", "--partitions", "1")
    (rows / "freshet-log" / "rocksdb").chmod(0o755)
    (rows / "freshet-log").chmod(0o755)  # the folder may be shared on purpose; the database is nobody else's
    freshet(rows, "produce", "rows.csv")
    assert mode(rows / "freshet-log" / "rocksdb") == 0o700


@pytest.mark.kafka
def test_the_state_of_a_worker_on_kafka_is_private(rows: Path, kafka_bootstrap: str) -> None:
    (rows / "freshet.toml").write_text(
        f'bootstrap = "{kafka_bootstrap}"\nstate = "deep/state"\napplication = "p"\n'
        + "".join(f'{name} = "{topic}"\n' for name, topic in topics_under("p.").items())
    )
    freshet(rows, "topics", "create", "--partitions", "1")
    freshet(rows, "produce", "rows.csv")
    freshet(rows, "run", "--exit-at-end")
    freshet(rows, "checkpoint", "export", "state.parquet")
    assert readable_by_others(rows / "deep") == []
    assert mode(rows / "state.parquet") == 0o600
