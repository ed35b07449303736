"""What another worker took of a partition comes into the state in pieces, unpublished; lists of one that returns are known."""

import json

import msgspec
import numpy as np
import pytest

from consumers.errors import PositionGone
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from consumers.schemas import EpochManifest, RecommendationList
from streamer.pipeline.epoch import EpochInput, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.partition_merge import PartitionMerge
from streamer.worker.takeover import Takeover

TP = TopicPartition("interactions", 0)
NOW_MS = 1_700_000_000_000


def value(user: str, item: str, t: int) -> bytes:
    return json.dumps({"user_id": user, "item_id": item, "event_type": "view", "timestamp": t}).encode()


def send(log: OwnedLog, events: int, first: int = 0) -> None:
    log.append([NewRecord(TP.topic, b"", value(f"u{n % 3}", f"i{n % 5}", NOW_MS + n)) for n in range(first, events)])


def takeover_of(log: OwnedLog, settings: Settings, chunk: int = 4, from_start: bool = False) -> Takeover:
    return Takeover(log, Intake(settings), chunk, from_start)


def test_it_comes_in_pieces_up_to_the_committed_position(log: OwnedLog, settings: Settings) -> None:
    send(log, 15)
    takeover = takeover_of(log, settings)
    takeover.begin(TP, 1, 11)
    pieces = []
    while not (done := takeover.finished()):
        assert len(takeover) == 1
        piece = takeover.next()
        pieces.append([arrival.offset for arrival in piece])
    assert pieces == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert done == {TP: 11}
    assert len(takeover) == 0
    assert takeover.next() == []


def test_a_partition_that_goes_half_way_leaves_what_was_taken(log: OwnedLog, settings: Settings) -> None:
    send(log, 15)
    takeover = takeover_of(log, settings)
    takeover.begin(TP, 0, 10)
    piece = takeover.next()
    takeover.drop(TP)
    assert (len(takeover), takeover.finished(), takeover.next()) == (0, {}, [])
    takeover.begin(TP, piece[-1].offset + 1, 10)  # it is back
    again = takeover.next()
    assert again[0].offset == 4
    takeover.close()


def test_what_another_worker_took_in_its_time_is_not_too_late_now(settings: Settings) -> None:
    strict = settings.model_copy(update={"too_late": "dead-letter"})
    state = StreamState(strict)
    pipeline, intake = Pipeline(strict, state), Intake(strict)
    pipeline.take(epoch_of(intake, [value("u", "i", NOW_MS)], partition=1))
    old = epoch_of(intake, [value("v", "j", NOW_MS - 1_000_000)], adopted=True)
    output = pipeline.take(old)
    assert len(output.taken) == 1
    assert output.dead == 0
    (manifest,) = output.records
    assert msgspec.json.decode(manifest.value or b"", type=EpochManifest).adopted


def test_the_first_list_after_what_was_adopted_is_published(settings: Settings) -> None:
    """The same ranking as before would not be; but what is published came from another worker's state."""
    state = StreamState(settings)
    pipeline, intake = Pipeline(settings, state), Intake(settings)
    adopted = epoch_of(intake, [value("u", "only", NOW_MS)], adopted=True)
    assert len(pipeline.take(adopted).records) == 1
    own = epoch_of(intake, [value("u", "only", NOW_MS + 1)], offset=1)
    lists = [r for r in pipeline.take(own).records if r.topic == settings.recommendations_topic]
    assert [msgspec.json.decode(r.value or b"", type=RecommendationList).list_id for r in lists] == ["0-1"]
    same = epoch_of(intake, [value("u", "only", NOW_MS + 2)], offset=2)
    assert [r.topic for r in pipeline.take(same).records] == [settings.epochs_topic]


def test_lists_of_a_partition_that_returns_are_known_after_a_restart_too(settings: Settings) -> None:
    store: dict[bytes, bytes] = {}
    state = StreamState(settings)
    pipeline, intake = Pipeline(settings, state), Intake(settings)
    pipeline.take(epoch_of(intake, [value("u", "i", NOW_MS)]))
    user = np.array([state.engine.model.users.get("u")], np.int32)
    item = state.engine.model.items.get("i")
    assert item is not None
    pipeline.take(epoch_input(released=[0]))
    assert not state.listed.has_list(user)[0]
    assert state.listed.naming(item).tolist() == []
    store.update((k, v) for k, v in state.delta().items() if v is not None)
    again = StreamState(settings, lambda prefix: sorted((k, v) for k, v in store.items() if k.startswith(prefix)))
    assert again.load()
    assert again.listed.is_away(0)
    Pipeline(settings, again).take(epoch_input(regained=[0]))
    assert again.listed.has_list(user)[0]
    assert again.listed.naming(item).tolist() == user.tolist()


@pytest.mark.parametrize("from_start", [False, True])
def test_a_history_that_is_gone_is_said(
    settings: Settings, log: OwnedLog, from_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log.create([TopicSpec("short", 1, "delete", 1)])
    tp = TopicPartition("short", 0)
    log.append([NewRecord("short", b"", b"", partition=0) for _ in range(3)])
    log.close()
    assert settings.log
    opened = OwnedLog(settings.log)  # retention is kept when it is opened
    takeover = takeover_of(opened, settings, from_start=from_start)
    assert opened.starts("short") == {0: 3}
    if from_start:
        takeover.begin(tp, 0, 3)
        assert "3 records are lost to it" in caplog.text
        assert takeover.finished() == {tp: 3}
    else:
        with pytest.raises(PositionGone, match="begins at 3, the state goes on at 0"):
            takeover.begin(tp, 0, 3)
    opened.close()


def test_a_partition_that_is_opened_again_has_nothing_waiting(settings: Settings) -> None:
    merge = PartitionMerge(0)
    merge.open(TP)
    merge.add(TP, epoch_of(Intake(settings), [value("u", "i", NOW_MS)]).arrivals)
    merge.open(TP)
    assert len(merge) == 0


def epoch_of(
    intake: Intake, values: list[bytes], partition: int = 0, offset: int = 0, adopted: bool = False
) -> EpochInput:
    records = [Record(TP.topic, partition, offset + n, b"", v, (), NOW_MS) for n, v in enumerate(values)]
    return epoch_input([intake.arrival(record, NOW_MS + 10_000) for record in records], adopted=adopted)
