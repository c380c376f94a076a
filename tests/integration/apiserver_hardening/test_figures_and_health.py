"""Metrics under Kubernetes' names, and the health of the server with its named checks."""

from __future__ import annotations

import json
import re
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi

from .conftest import Wire

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of this name that carry these labels."""
    return sum(
        value for (known, have), value in samples.items() if known == name and labels.items() <= set(have)
    )


def test_metrics_of_the_api_server(kubectl: Kubectl, wire: Wire, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    before = scrape(kubectl("get", "--raw", "/metrics"))
    wire.send("POST", maps, {"metadata": {"name": "m"}}).must(201)
    wire.send("POST", f"{maps}?dryRun=All", {"metadata": {"name": "d"}}).must(201)
    watching = kubectl.start("get", "configmaps", "--watch", "--output-watch-events", stdout=-1)
    assert watching.stdout is not None and watching.stdout.readline() and watching.stdout.readline()
    wire.send(
        "PATCH", f"{maps}/m", {"data": {"a": "b"}}, {"Content-Type": "application/merge-patch+json"}
    ).must(200)
    while "MODIFIED" not in watching.stdout.readline():
        pass
    after = scrape(kubectl("get", "--raw", "/metrics"))
    watching.terminate()
    watching.wait()

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    about = {"verb": "POST", "group": "", "version": "v1", "resource": "configmaps", "component": "apiserver"}
    assert grown("apiserver_request_total", **about, dry_run="", code="201") == 1
    assert grown("apiserver_request_total", **about, dry_run="All", code="201") == 1
    assert grown("apiserver_request_duration_seconds_count", **about, scope="namespace") == 2
    assert grown("etcd_request_duration_seconds_count", operation="create", resource="configmaps") == 1
    assert grown("etcd_request_duration_seconds_count", operation="update", resource="configmaps") == 1
    assert grown("apiserver_watch_events_total", resource="configmaps") >= 1
    assert total(after, "apiserver_storage_objects", resource="configmaps") >= 1
    assert total(after, "apiserver_longrunning_requests", verb="WATCH", resource="configmaps") >= 1
    assert total(after, "apiserver_current_inflight_requests", request_kind="readOnly") >= 1
    assert total(after, "kubernetes_build_info", major="1", minor="34") == 1
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"):
        assert total(after, name) > 0


def test_metrics_of_a_client(private: PrivateApi) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{private.controllers_port}/metrics", timeout=10) as answer:
        samples = scrape(answer.read().decode())
    assert total(samples, "rest_client_requests_total", code="200", method="GET") > 0
    for name in ("adds_total", "queue_duration_seconds_count", "work_duration_seconds_count"):
        assert total(samples, f"workqueue_{name}") > 0


def test_health(wire: Wire) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert wire.send("GET", path).body == b"ok"
        lines = wire.send("GET", f"{path}?verbose").body.decode().splitlines()
        assert lines[-1] == f"{path[1:]} check passed"
        assert all(re.fullmatch(r"\[\+\][\w/-]+ ok", line) for line in lines[:-1]), lines
        assert "[+]etcd ok" in lines and "[+]ping ok" in lines
        assert wire.send("GET", f"{path}/ping").body == b"ok"
        wire.send("GET", f"{path}/nothing").must(404)
    lines = wire.send("GET", "/readyz?verbose&exclude=etcd&exclude=odd").body.decode().splitlines()
    assert "[+]etcd excluded: ok" in lines
    assert lines[-2] == 'warn: some health checks cannot be excluded: no matches for "odd"'
    wire.send("GET", "/debug/pprof/").must(404)


def test_the_version(wire: Wire) -> None:
    assert json.loads(wire.send("GET", "/version").body)["gitVersion"].startswith("v1.34.")
