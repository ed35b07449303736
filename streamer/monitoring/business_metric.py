"""What lists bring, for Prometheus: the same from who counts it and from who shows it."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from consumers.schemas import Business


def business_metric(results: Iterable[Business]) -> Metric:
    """One sample for each result that has a value."""
    metric = GaugeMetricFamily("freshet_business", "What lists bring, so far.", labels=["surface", "arm", "metric"])
    for one in results:
        if one.value is not None:
            metric.add_metric([one.surface, one.arm, one.metric], one.value)
    return metric
