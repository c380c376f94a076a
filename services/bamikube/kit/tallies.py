"""Counters and histograms for the hot path: plain numbers of one event loop, shown to Prometheus when somebody scrapes.

The client library's own take a lock for every count and walk through the buckets for every observation, which is dear where
each request is counted five times over. These here have the same names, labels and text form; what they do not have is locks,
so that they may only be touched from the event loop (or from one thread).

Worked example::

    TOOK = Histograms("apiserver_request_duration_seconds", "Response latency ...", ["verb"], (0.1, 1.0))
    TOOK.of("GET").observe(0.2)     # _bucket{le="0.1"} 0, {le="1.0"} 1, {le="+Inf"} 1, _sum 0.2, _count 1
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from bamikube.kit.metrics import REGISTRY


class Tally:
    """One counter's value."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, by: int = 1) -> None:
        self.value += by


class Series:
    """One histogram: ``counts`` by bucket, the last one for what is beyond all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counters(Collector):
    """A counter with labels. ``name`` is without ``_total``, which the text form adds; ``total=False`` is for the old names
    of Kubernetes that have none, which have to be shown as gauges, since the client library insists on it."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        total: bool = True,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._about = (name, text)
        self._family: type[CounterMetricFamily] | type[GaugeMetricFamily]
        self._family = CounterMetricFamily if total else GaugeMetricFamily
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def of(self, *labels: str) -> Tally:
        """The counter with these values of the labels; made when it is asked for first."""
        found = self._series.get(labels)
        if found is None:
            assert len(labels) == len(self._labels), labels
            found = self._series[labels] = Tally()
        return found

    def total(self, **labels: str) -> int:
        """The sum of all counters that have these values of these labels."""
        wanted = [(self._labels.index(name), value) for name, value in labels.items()]
        return sum(
            tally.value
            for values, tally in self._series.items()
            if all(values[index] == value for index, value in wanted)
        )

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        family = self._family(*self._about, labels=self._labels)
        for labels, tally in self._series.items():
            family.add_metric(labels, tally.value)
        yield family


class Histograms(Collector):
    """A histogram with labels. ``bounds`` ascend; the bucket of all (+Inf) is added."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._about = (name, text)
        self._labels = tuple(labels)
        self._bounds = tuple(float(bound) for bound in bounds)
        self._shown = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]  # as Go writes them
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def of(self, *labels: str) -> Series:
        """The histogram with these values of the labels; made when it is asked for first."""
        found = self._series.get(labels)
        if found is None:
            assert len(labels) == len(self._labels), labels
            found = self._series[labels] = Series(self._bounds)
        return found

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, series in self._series.items():
            reached, buckets = 0, []
            for shown, count in zip(self._shown, series.counts, strict=True):
                reached += count
                buckets.append((shown, reached))
            family.add_metric(labels, buckets, series.total)
        yield family
