"""What the benchmarks make of raw results: percentiles, tables, load.py's lines, wrk's units, lines of code."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"


def script(name: str) -> ModuleType:
    """A script of ``bench/``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def test_a_percentile_is_a_value_that_was_measured() -> None:
    report = script("report")
    assert report.percentile(range(1, 101), 99) == 99
    assert report.percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert report.percentile([7.0], 99) == 7.0
    assert math.isnan(report.percentile([], 99))
    assert math.isnan(report.median([]))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.00123, "1.23"), (0.0456, "45.6"), (1.2344, "1234"), (math.nan, "-")]
)
def test_milliseconds_show_three_digits(seconds: float, shown: str) -> None:
    assert script("report").milliseconds(seconds) == shown


def test_a_table_aligns_names_left_and_numbers_right() -> None:
    text = script("report").table("title", ("", "per s"), [("GET", "7 522"), ("CREATE", "9")])
    assert text == "title\n          per s\n  GET     7 522\n  CREATE      9"


def test_units_of_wrk() -> None:
    api = script("api")
    assert api._latency("812.00us") == pytest.approx(0.812)
    assert api._latency("1.90ms") == pytest.approx(1.9)
    assert api._latency("1.02s") == pytest.approx(1020)
    with pytest.raises(ValueError, match="nonsense"):
        api._latency("nonsense")


def test_a_fan_out_gives_deliveries_and_updates() -> None:
    line = {
        "test": "watch-fanout",
        "watchers": 100,
        "updates": 500,
        "all_received": True,
        "events_s": 54398.0,
        "write_seconds": 0.5,
        "lag_from_put_start": {"p50_ms": 233.0, "p99_ms": 411.0},
        "put": {"p50_ms": 24.1, "p99_ms": 39.3},
        "cpu_s": {"apiserver": 0.8},
    }
    deliveries, updates = script("api").rows_of(line)
    assert deliveries == ("WATCH 500 updates to 100 watchers (deliveries)", 54398.0, 233.0, 411.0, 0.8)
    assert updates[1:4] == (1000.0, 24.1, 39.3)


def test_events_that_never_came_are_no_result() -> None:
    with pytest.raises(SystemExit, match="missed"):
        list(script("api").rows_of({"test": "watch-fanout", "all_received": False}))


def test_comments_and_docstrings_are_no_code() -> None:
    source = '"""Story\nof two lines."""\n\n# why\ndef f() -> str:\n    """Doc."""\n    return """a\nb"""  # three\n'
    assert script("lines").code_lines(source) == 3


def test_what_a_request_of_each_kind_costs() -> None:
    cost = script("compare").cost
    cpu = {"cpu_s": {"etcd": 9.0, "apiserver": 2.0}}
    assert cost({"test": "create-pod", "n": 2000, **cpu}) == ("CREATE of a pod", 0.001)
    assert cost({"test": "deletecollection-cm", "n": 2000, **cpu}) == ("deletecollection, one of it", 0.001)
    assert cost({"test": "get", "conns": 16, "req_s": 1000.0, "wall_s": 2.0, **cpu}) == (
        "GET, 16 connections",
        0.001,
    )
    assert cost({"test": "list-pods", "query": "?resourceVersion=0", "n": 2000, **cpu}) == (
        "LIST of 2000 pods, from the cache",
        2.0 / 15,
    )
    assert cost({"test": "version"}) is None
    assert cost({"test": "something-new", **cpu}) is None
