"""Metrics under Kubernetes' names, and the health of the server with its named checks."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request

import pytest
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


def total(samples: Samples, name: str, /, **labels: str) -> float:
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

    def grown(name: str, /, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    about = {"verb": "POST", "group": "", "version": "v1", "resource": "configmaps", "component": "apiserver"}
    assert grown("apiserver_request_total", **about, dry_run="", code="201") == 1
    assert grown("apiserver_request_total", **about, dry_run="All", code="201") == 1
    assert grown("apiserver_request_duration_seconds_count", **about, scope="namespace") == 2
    assert grown("etcd_request_duration_seconds_count", operation="create", resource="configmaps") == 1
    assert grown("etcd_request_duration_seconds_count", operation="update", resource="configmaps") == 1
    assert grown("apiserver_watch_events_total", resource="configmaps") >= 1
    assert total(after, "apiserver_storage_objects", resource="configmaps") >= 1
    assert total(after, "apiserver_storage_size_bytes", storage_cluster_id="etcd-0") > 16_000
    assert total(after, "apiserver_longrunning_requests", verb="WATCH", resource="configmaps") >= 1
    assert total(after, "apiserver_current_inflight_requests", request_kind="readOnly") >= 1
    assert total(after, "kubernetes_build_info", major="1", minor="34") == 1
    assert grown("apiserver_request_sli_duration_seconds_count", **about, scope="namespace") == 2
    assert total(after, "apiserver_response_sizes_count", verb="LIST", resource="configmaps") >= 1
    steps = {"operation": "CREATE", "rejected": "false"}
    assert grown("apiserver_admission_step_admission_duration_seconds_count", **steps, type="admit") >= 2
    plugin = "apiserver_admission_controller_admission_duration_seconds_count"
    assert grown(plugin, **steps, name="NamespaceLifecycle", type="admit") >= 2
    assert grown("authentication_attempts", result="success") >= 3
    assert grown("authenticated_user_requests", username="other") >= 3
    assert grown("authorization_attempts_total", result="allowed") >= 3
    assert total(after, "apiserver_client_certificate_expiration_seconds_count") > 0
    assert total(after, "kubernetes_feature_enabled", name="ServerSideApply", stage="") == 1
    level = {"priority_level": "exempt", "flow_schema": "exempt"}
    assert grown("apiserver_flowcontrol_dispatched_requests_total", **level) >= 3
    assert grown("apiserver_flowcontrol_request_wait_duration_seconds_count", **level, execute="true") >= 3
    assert not [name for name, _ in after if name.endswith("_created")]
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"):
        assert total(after, name) > 0


def test_metrics_of_what_is_refused(
    private: PrivateApi, kubectl: Kubectl, wire: Wire, namespace: str
) -> None:
    before = scrape(kubectl("get", "--raw", "/metrics"))
    stranger = urllib.request.Request(f"{private.url}/api", headers={"Authorization": "Bearer nobody"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(
            stranger, context=ssl.create_default_context(cafile=str(private.ca)), timeout=10
        )
    bad = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a", "image": "a"}], "priorityClassName": "no"},
    }
    wire.send("POST", f"/api/v1/namespaces/{namespace}/pods", bad).must(403)
    kubectl("get", "endpoints")
    after = scrape(kubectl("get", "--raw", "/metrics"))

    def grown(name: str, /, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert grown("authentication_attempts", result="failure") == 1
    plugin = "apiserver_admission_controller_admission_duration_seconds_count"
    assert grown(plugin, name="Priority", operation="CREATE", rejected="true", type="admit") == 1
    assert total(after, "apiserver_requested_deprecated_apis", resource="endpoints", version="v1") == 1


def test_health_for_service_levels(kubectl: Kubectl, wire: Wire) -> None:
    assert wire.send("GET", "/readyz").body == b"ok"
    slis = scrape(kubectl("get", "--raw", "/metrics/slis"))
    assert total(slis, "kubernetes_healthcheck", name="etcd", type="readyz") == 1
    assert total(slis, "kubernetes_healthchecks_total", name="ping", status="success", type="readyz") >= 1


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
    assert "[+]etcd excluded: ok" in lines and "[+]shutdown ok" in lines
    assert lines[-2] == 'warn: some health checks cannot be excluded: no matches for "odd"'
    wire.send("GET", "/debug/pprof/").must(404)


def test_the_version(wire: Wire) -> None:
    assert json.loads(wire.send("GET", "/version").body)["gitVersion"].startswith("v1.34.")
