"""Status, generation and allocated values on create, update and status update."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import conversion, selectable, strategy, table
from bamikube.api.qos import qos_class

PODS = table.by_name("pods")
DEPLOYMENTS = table.by_name("deployments.apps")
SERVICES = table.by_name("services")


def test_create_drops_status_and_starts_generation_at_one() -> None:
    obj = {"metadata": {"name": "a", "generation": 9}, "spec": {}, "status": {"replicas": 7}}
    strategy.prepare_create(DEPLOYMENTS, obj)
    assert obj == {"metadata": {"name": "a", "generation": 1}, "spec": {"strategy": {}}, "status": {}}


def test_nodes_bring_their_status_along() -> None:
    obj = {"metadata": {"name": "a"}, "status": {"capacity": {"cpu": "2"}}}
    strategy.prepare_create(table.by_name("nodes"), obj)
    status = obj["status"]
    assert status["capacity"] == {"cpu": "2"}
    assert (
        status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}} and status["nodeInfo"]["osImage"] == ""
    )  # type: ignore[index]


def test_namespaces_are_active_and_hold_the_kubernetes_finalizer() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "a"}}
    strategy.prepare_create(table.by_name("namespaces"), obj)
    assert obj["spec"] == {"finalizers": ["kubernetes"]}
    assert obj["status"] == {"phase": "Active"}
    assert obj["metadata"]["labels"] == {"kubernetes.io/metadata.name": "a"}


def test_generation_counts_spec_changes_only() -> None:
    old = {"metadata": {"name": "a", "generation": 4}, "spec": {"replicas": 1}, "status": {"replicas": 1}}
    same = copy.deepcopy(old) | {"status": {"replicas": 99}}
    strategy.prepare_update(DEPLOYMENTS, same, old)
    assert same == old
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 2
    strategy.prepare_update(DEPLOYMENTS, new, old)
    assert new["metadata"]["generation"] == 5


def test_status_updates_keep_everything_else() -> None:
    old = {"metadata": {"name": "a", "labels": {"a": "b"}, "generation": 4}, "spec": {"replicas": 1}}
    new = {"metadata": {"name": "a"}, "spec": {"replicas": 9}, "status": {"replicas": 1}}
    strategy.prepare_status_update(DEPLOYMENTS, new, old)
    assert new == old | {"status": {"replicas": 1}}


def test_service_updates_take_over_what_was_allocated() -> None:
    port = {"port": 80, "protocol": "TCP"}
    spec = {
        "type": "NodePort",
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
        "ports": [port | {"nodePort": 30080}],
    }
    old = {"metadata": {"name": "a"}, "spec": spec}
    new: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [dict(port)]}}
    strategy.prepare_update(SERVICES, new, old)
    assert new["spec"] == spec
    new = copy.deepcopy(old)
    new["spec"]["type"] = "ClusterIP"
    strategy.prepare_update(SERVICES, new, old)
    assert "nodePort" not in new["spec"]["ports"][0]


def test_a_job_selects_by_its_uid() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "a", "uid": "u-1"}, "spec": {"template": {}}}
    strategy.prepare_create(table.by_name("jobs.batch"), obj)
    assert obj["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert obj["spec"]["template"]["metadata"]["labels"]["job-name"] == "a"


@pytest.mark.parametrize(
    ("pod", "requested", "grace"),
    [
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}}, None, 7),
        ({"spec": {"nodeName": "n"}}, None, 30),
        ({"spec": {"nodeName": "n"}}, 0, 0),
        ({"spec": {"nodeName": "n"}}, -1, 1),
        ({"spec": {}}, None, 0),
        ({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}, None, 0),
    ],
)
def test_grace(pod: dict[str, Any], requested: int | None, grace: int) -> None:
    assert strategy.deletion_grace(PODS, pod, requested) == grace
    assert strategy.deletion_grace(DEPLOYMENTS, pod, requested) == 0


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        (
            {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}},
            "Guaranteed",
        ),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], expected: str) -> None:
    assert qos_class({"containers": [{"name": "a", "resources": resources}]}) == expected
    if resources:  # what the pod as a whole has goes before what containers have
        assert qos_class({"containers": [{"name": "a"}], "resources": resources}) == expected


def test_events_in_both_shapes() -> None:
    row = table.by_name("events.events.k8s.io")
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "a"},
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "hello",
        "reportingController": "x",
        "deprecatedCount": 3,
    }
    stored = conversion.to_storage(row, event)
    assert stored["apiVersion"] == "v1"
    assert stored["involvedObject"] == {"kind": "Pod", "name": "p"}
    assert (stored["message"], stored["reportingComponent"], stored["count"]) == ("hello", "x", 3)
    assert (stored["source"], stored["eventTime"], stored["reportingInstance"]) == ({}, None, "")
    shown = conversion.from_storage(row, stored)
    written = {"eventTime": None, "deprecatedFirstTimestamp": None, "deprecatedLastTimestamp": None}
    assert shown == event | written | {"deprecatedSource": {}}
    assert selectable.value(table.by_name("events"), stored, "source") == "x"


def test_autoscalers_lose_nothing_between_versions() -> None:
    row = table.find("autoscaling", "v1", "horizontalpodautoscalers")
    assert row is not None
    memory = {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "Value", "averageValue": "1Gi"}},
    }
    cpu = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    stored = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "metrics": [cpu, memory], "behavior": {"scaleDown": {"policies": []}}},
        "status": {"desiredReplicas": 0, "currentMetrics": []},
    }
    shown = conversion.from_storage(row, stored)
    assert shown["spec"] == {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    assert shown["status"] == {"currentReplicas": 0, "desiredReplicas": 0}
    assert conversion.to_storage(row, shown) == stored


def test_selectable_values_are_never_missing() -> None:
    values = selectable.values(PODS, {"metadata": {"name": "a", "namespace": "b"}})
    assert values["spec.hostNetwork"] == "false" and values["spec.nodeName"] == ""
    assert (
        selectable.value(table.by_name("nodes"), {"spec": {"unschedulable": True}}, "spec.unschedulable")
        == "true"
    )
