"""The view as Prometheus families."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from streamer.monitoring.business_metric import business_metric
from streamer.web.materialized_view import View


class ViewMetrics:
    """A collector of a `CollectorRegistry`."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """The view as it is now."""
        stats = self._view.stats()
        yield GaugeMetricFamily("freshet_view_users_with_list", "Users with a list.", stats["lists"])
        ready = float(self._view.status().ready)
        yield GaugeMetricFamily("freshet_view_ready", "1 while the lists follow the log.", ready)
        skipped = CounterMetricFamily(
            "freshet_view_skipped_records", "Bad records of the topics that it reads, passed over.", labels=["topic"]
        )
        for topic in self._view.topics:
            skipped.add_metric([topic], self._view.skipped[topic])
        yield skipped
        yield GaugeMetricFamily("freshet_view_interactions", "Interactions on the log.", stats["events"])
        if (counts := self._view.quality.feedback) is not None:
            help_ = "Feedback records whose list has not come yet, where `freshet run feedback` counts."
            yield GaugeMetricFamily("freshet_view_feedback_waiting", help_, counts.waiting)
        yield business_metric(self._view.quality.business.results())
        if stats["latency_ms"]:
            family = GaugeMetricFamily(
                "freshet_list_latency_seconds",
                "Time from an interaction to its list, over the last lists, s.",
                labels=["quantile"],
            )
            for name, value in (("0.5", stats["latency_ms"]["p50"]), ("0.99", stats["latency_ms"]["p99"])):
                family.add_metric([name], value / 1000)
            yield family
