"""The input of an epoch: one value, made in one place, that nobody changes."""

import dataclasses
import re
from pathlib import Path

import pytest

from consumers.records import Record, TopicPartition
from streamer.pipeline.epoch import Erasure, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.settings import Settings

ROOT = Path(__file__).parents[3]


def test_it_is_made_in_one_place() -> None:
    made = [
        file.relative_to(ROOT).as_posix()
        for folder in ("streamer", "tests")
        for file in (ROOT / folder).rglob("*.py")
        for _ in re.findall(r"\bEpochInput\(", file.read_text())
        if file != Path(__file__)
    ]
    assert made == ["streamer/pipeline/epoch.py"]


def test_nobody_changes_it() -> None:
    epoch = epoch_input(ends={TopicPartition("interactions", 0): 3})
    with pytest.raises(dataclasses.FrozenInstanceError):
        epoch.adopted = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        epoch.ends[TopicPartition("interactions", 0)] = 4  # type: ignore[index]


def test_it_ends_after_the_last_record_of_each_partition_and_bad_ones_go_aside() -> None:
    intake = Intake(Settings())
    arrivals = [intake.arrival(Record("interactions", p, n, b"", b"{oops", (), 0), 0) for p, n in ((1, 4), (0, 2))]
    changes = [intake.change(Record("users", 0, n, key, None, (), 7)) for n, key in enumerate((b"u", b"\xff"))]
    epoch = epoch_input(arrivals, changes, erasures=[Erasure("gone", -1)])
    assert dict(epoch.ends) == {
        TopicPartition("interactions", 0): 3,
        TopicPartition("interactions", 1): 5,
        TopicPartition("users", 0): 2,
    }
    assert epoch.changes == (Erasure("gone", -1), Erasure("u", 7))
    assert [letter.record.offset for letter in epoch.dead] == [1]
