"""The text that Prometheus reads: bounds of buckets are labels, by which rules of others choose them."""

from __future__ import annotations

from prometheus_client import Histogram

from bamikube.kit.metrics import REGISTRY, render


def test_bounds_of_buckets_are_written_as_go_writes_them() -> None:
    taken = Histogram(
        "test_metrics_text_seconds", "How long.", ["role"], buckets=(0.5, 1.0, 10.0), registry=REGISTRY
    )
    try:
        taken.labels('le="2.0"').observe(0.7)
        lines = render().decode().splitlines()
    finally:
        REGISTRY.unregister(taken)
    label = r'role="le=\"2.0\""'
    assert [line for line in lines if line.startswith("test_metrics_text_seconds_bucket")] == [
        f'test_metrics_text_seconds_bucket{{le="0.5",{label}}} 0.0',
        f'test_metrics_text_seconds_bucket{{le="1",{label}}} 1.0',
        f'test_metrics_text_seconds_bucket{{le="10",{label}}} 1.0',
        f'test_metrics_text_seconds_bucket{{le="+Inf",{label}}} 1.0',
    ]
