"""The numbers of a tally as Prometheus reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from flwr_krum.monitor.tally import METRICS

PREFIX = "flwr_krum_"

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}

Read = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Numbers(Collector):
    """Every metric that there is, also those without a number yet.

    Parameters
    ----------
    read : callable -> pairs of (metric, *label values) and number
        Called whenever somebody asks for the metrics, in a thread of the server.
    """

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        """Yield the metrics."""
        by_metric = defaultdict(list)
        for (metric, *values), value in self._read():
            by_metric[metric].append((values, value))
        for name, (kind, help_, labels) in METRICS.items():
            family = _FAMILIES[kind](PREFIX + name, help_, labels=labels)
            for values, value in by_metric[name]:
                family.add_metric(values, value)
            yield family


def registry_of(read: Read) -> CollectorRegistry:
    """Return a registry that holds these numbers and nothing about this process."""
    registry = CollectorRegistry()
    registry.register(Numbers(read))
    return registry
