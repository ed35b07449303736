"""A rebuilt state is that of a stream in which what was taken back never was, learned weights included."""

import numpy as np

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.worker.rebuild import rebuild
from tests.canonical import canonical
from tests.scenarios.test_worker import interaction, lists_of, run
from tests.worlds import checkerboard


def test_a_rebuild_unlearns_what_was_taken_back(log: OwnedLog, settings: Settings) -> None:
    events = list(enumerate(checkerboard(events=400, users=12, items=60)))
    log.append([interaction(*event, event_id=str(n)) for n, event in events])
    run(log, settings)
    gone = [n for n, (user, _, _) in events if n % 9 == 0 or user == "u5"]
    log.append([interaction(*event, event_id=str(n), retract=True) for n, event in events if n % 9 == 0])
    log.append([NewRecord("users", b"u5", None)])
    before = run(log, settings)
    done = rebuild(log, settings)
    assert done.taken_back == len(gone)
    again = run(log, settings)

    clean = settings.model_copy(update={"log": settings.log / "clean", "state": settings.state / "clean"})
    other = OwnedLog(clean.log)
    other.create(topic_specs(clean, partitions=1))
    other.append([interaction(*event) for n, event in events if n not in gone])
    expected = run(other, clean)
    other.close()
    model, wanted = again.state.engine.model, expected.state.engine.model
    assert canonical(model) == canonical(wanted)
    for ours, theirs in zip(model.ranker, wanted.ranker, strict=True):
        assert np.array_equal(ours, theirs)
    assert again.state.epoch == before.state.epoch + 1
    assert "u5" not in lists_of(log)
