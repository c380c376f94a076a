"""Counters and histograms without locks: what a scrape sees of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from bamikube.kit.tallies import Counters, Histograms


def test_a_histogram_counts_as_prometheus_does() -> None:
    registry = CollectorRegistry()
    took = Histograms("took_seconds", "How long.", ("verb",), (0.5, 1, 2.5), registry=registry)
    for value in (0.1, 0.5, 0.6, 2.5, 9):  # a bound belongs to its bucket
        took.of("GET").observe(value)
    assert took.of("GET") is took.of("GET")
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        'took_seconds_bucket{le="0.5",verb="GET"} 2.0',
        'took_seconds_bucket{le="1",verb="GET"} 3.0',
        'took_seconds_bucket{le="2.5",verb="GET"} 4.0',
        'took_seconds_bucket{le="+Inf",verb="GET"} 5.0',
        'took_seconds_count{verb="GET"} 5.0',
        'took_seconds_sum{verb="GET"} 12.7',
    ]


def test_a_counter_ends_in_total_unless_kubernetes_does_without() -> None:
    registry = CollectorRegistry()
    made = Counters("made", "Made.", ("what", "how"), registry=registry)
    old = Counters("attempts", "Tries.", total=False, registry=registry)
    made.of("a", "x").inc()
    made.of("a", "y").inc(2)
    made.of("b", "y").inc(4)
    old.of().inc()
    text = generate_latest(registry).decode()
    assert 'made_total{how="y",what="a"} 2.0' in text and "_created" not in text
    assert "\nattempts 1.0" in text
    assert (made.total(what="a"), made.total(how="y"), made.total()) == (3, 6, 7)
