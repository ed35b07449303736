"""A step is made of few interactions where the last one was a while ago, and of as many as ever in a busy stream."""

from streamer.pipeline.learning import LATE_STEP_EVENTS, LATER, LATER_STEP_EVENTS, STEP_EVENTS
from streamer.state.shared_learning import SharedLearning
from streamer.worker.step_pace import STEP_AT_LEAST_S, StepPace
from tests.clocks import ManualClock


def test_steps_are_of_fewer_interactions_where_these_come_slowly() -> None:
    clock, learning = ManualClock(), SharedLearning()
    pace = StepPace(clock)
    assert pace.least(learning) == STEP_EVENTS
    learning.events = learning.total = 3
    clock.advance(STEP_AT_LEAST_S)
    assert pace.least(learning) == LATE_STEP_EVENTS
    learning.events = learning.total = 4
    assert pace.least(learning) == LATE_STEP_EVENTS  # until one is made
    learning.events, learning.total = 0, 5
    assert pace.least(learning) == STEP_EVENTS
    learning.events = 19
    clock.advance(STEP_AT_LEAST_S / 2)
    assert pace.least(learning) == STEP_EVENTS
    learning.events, learning.total = 1, LATER + 1  # one was made, and another interaction came, between two looks
    clock.advance(STEP_AT_LEAST_S * 0.6)
    assert pace.least(learning) == LATER_STEP_EVENTS
    clock.advance(STEP_AT_LEAST_S)
    assert pace.least(learning) == LATE_STEP_EVENTS
