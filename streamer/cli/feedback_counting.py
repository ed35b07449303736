"""What `freshet run feedback` does: counts, stops arms that harm, and goes on after the log was away."""

from collections.abc import Iterator
from contextlib import contextmanager

from consumers.log import Log
from streamer.cli.health_server import health
from streamer.experiments.guards import GuardWatch
from streamer.feedback.carrying import carry_embedded, carry_kafka
from streamer.feedback.counting import FeedbackCounting
from streamer.feedback.feedback_metrics import FeedbackMetrics
from streamer.runtime.optional_packages import require
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topics import follow_log_of, open_log_of
from streamer.settings import Settings


def count_feedback(settings: Settings, stop: StopRequest, exit_at_end: bool, follow: bool) -> None:
    """Counts feedback until `stop`, or until all that is in the log is counted.

    follow: never opens the folder of the embedded log itself.
    """
    if settings.bootstrap:
        require("feedback", "faust", "cramjam")
    metrics = FeedbackMetrics()

    @contextmanager
    def opened() -> Iterator[tuple[Log, FeedbackCounting]]:
        with (
            follow_log_of(settings, stop) if follow else open_log_of(settings) as log,
            FeedbackCounting(log, settings, metrics, look=GuardWatch(log, settings).look) as counting,
        ):
            yield log, counting

    def run(service: tuple[Log, FeedbackCounting]) -> None:
        log, counting = service
        if settings.bootstrap:
            carry_kafka(settings, counting, stop.__bool__, exit_at_end)
        else:
            carry_embedded(log, counting, stop.__bool__, exit_at_end)

    with health(settings, metrics):
        supervise(opened, run, stop, metrics.waiting, metrics.achieved)
