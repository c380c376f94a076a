"""What objects use, and which pods a quota looks at."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import podresources, quota
from bamikube.api.quota.scopes import matches

PODS, SERVICES, CLAIMS = ("", "pods"), ("", "services"), ("", "persistentvolumeclaims")


def shown(key: tuple[str, str], obj: dict[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in quota.usage(key, {"metadata": {"name": "x"}} | obj).items()}


def container(requests: Any = None, limits: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def test_a_pod() -> None:
    wants = {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1", "hugepages-2Mi": "4Mi"}
    spec = {"containers": [container(wants, {"cpu": "1"}), container({"cpu": "0.25"})]}
    assert shown(PODS, {"spec": spec}) == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "750m",
        "requests.cpu": "750m",
        "limits.cpu": "1",
        "memory": "1Gi",
        "requests.memory": "1Gi",
        "hugepages-2Mi": "4Mi",
        "requests.hugepages-2Mi": "4Mi",
        "requests.nvidia.com/gpu": "1",
    }
    for phase in ("Succeeded", "Failed"):
        assert shown(PODS, {"spec": spec, "status": {"phase": phase}}) == {"count/pods": "1"}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container({"cpu": "1"})], "initContainers": [container({"cpu": "3"})]}, "3"),
        (
            {
                "containers": [container({"cpu": "2"})],
                "initContainers": [
                    container({"cpu": "1"}, restartPolicy="Always"),
                    container({"cpu": "3"}),
                ],
            },
            "4",
        ),
        ({"containers": [container({"cpu": "1"})], "overhead": {"cpu": "250m"}}, "1250m"),
        ({"containers": [container({"cpu": "1"})], "resources": {"requests": {"cpu": "5"}}}, "5"),
    ],
)
def test_what_a_whole_pod_requests(spec: dict[str, Any], cpu: str) -> None:
    assert str(podresources.requests(spec)["cpu"]) == cpu


def test_overhead_raises_only_limits_that_are_there() -> None:
    spec = {"containers": [container(None, {"cpu": "1"})], "overhead": {"cpu": "1", "memory": "1Gi"}}
    assert {name: str(amount) for name, amount in podresources.limits(spec).items()} == {"cpu": "2"}


@pytest.mark.parametrize(
    ("spec", "ports", "balancers"),
    [
        ({"ports": [{}, {}]}, None, None),
        ({"type": "NodePort", "ports": [{}, {}]}, "2", None),
        ({"type": "LoadBalancer", "ports": [{}, {}]}, "2", "1"),
        (
            {
                "type": "LoadBalancer",
                "allocateLoadBalancerNodePorts": False,
                "ports": [{"nodePort": 30000}, {}],
            },
            "1",
            "1",
        ),
    ],
)
def test_a_service(spec: dict[str, Any], ports: str | None, balancers: str | None) -> None:
    used = shown(SERVICES, {"spec": spec})
    assert used["services"] == used["count/services"] == "1"
    assert used.get("services.nodeports") == ports
    assert used.get("services.loadbalancers") == balancers


def test_a_claim() -> None:
    spec = {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5Gi"}}}
    assert shown(CLAIMS, {"spec": spec}) == {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "1536Mi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "gold.storageclass.storage.k8s.io/requests.storage": "1536Mi",
    }
    grown = {"spec": spec, "status": {"allocatedResources": {"storage": "2Gi"}}}
    assert shown(CLAIMS, grown)["requests.storage"] == "2Gi"


def test_a_claim_of_devices_uses_the_most_it_may_be_given() -> None:
    def way(of: str, count: int | None = None) -> dict[str, Any]:
        mode = (
            {"allocationMode": "All"} if count is None else {"allocationMode": "ExactCount", "count": count}
        )
        return {"deviceClassName": of, **mode}

    requests = [
        {"name": "a", "exactly": way("gpu", 2)},
        {"name": "b", "firstAvailable": [way("gpu", 1), way("gpu", 4), way("nic", 3)]},
        {"name": "c", "exactly": way("disk")},
    ]
    claims = ("resource.k8s.io", "resourceclaims")
    assert shown(claims, {"spec": {"devices": {"requests": requests}}}) == {
        "count/resourceclaims.resource.k8s.io": "1",
        "gpu.deviceclass.resource.k8s.io/devices": "6",
        "nic.deviceclass.resource.k8s.io/devices": "3",
        "disk.deviceclass.resource.k8s.io/devices": "32",
    }
    assert quota.tracks({"gpu.deviceclass.resource.k8s.io/devices": "1", "pods": "1"}, claims) == [
        "gpu.deviceclass.resource.k8s.io/devices"
    ]


def test_everything_else_is_counted() -> None:
    assert shown(("apps", "deployments"), {}) == {"count/deployments.apps": "1"}
    assert shown(("", "secrets"), {}) == {"count/secrets": "1", "secrets": "1"}
    assert shown(("example.com", "widgets"), {}) == {"count/widgets.example.com": "1"}


def test_which_names_belong_to_which_kind() -> None:
    names = dict.fromkeys(
        [
            "pods",
            "cpu",
            "requests.cpu",
            "requests.nvidia.com/gpu",
            "hugepages-2Mi",
            "count/pods",
            "services.nodeports",
            "requests.storage",
            "gold.storageclass.storage.k8s.io/requests.storage",
            "secrets",
            "count/deployments.apps",
            "nonsense",
            "count/events",
        ]
    )
    assert quota.tracks(names, PODS) == [
        "pods",
        "cpu",
        "requests.cpu",
        "requests.nvidia.com/gpu",
        "hugepages-2Mi",
        "count/pods",
    ]
    assert quota.tracks(names, SERVICES) == ["services.nodeports"]
    assert quota.tracks(names, CLAIMS) == [
        "requests.storage",
        "gold.storageclass.storage.k8s.io/requests.storage",
    ]
    assert quota.tracks(names, ("apps", "deployments")) == ["count/deployments.apps"]
    assert quota.tracks(names, ("", "secrets")) == ["secrets"]
    assert quota.tracks(names, ("", "events")) == []


def selector(name: str, operator: str, *values: str) -> dict[str, Any]:
    one = {"scopeName": name, "operator": operator, "values": list(values)}
    return {"scopeSelector": {"matchExpressions": [one]}}


CROSS = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["a"]}]}}
WEIGHED = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaceSelector": {}}}]
    }
}


@pytest.mark.parametrize(
    ("spec", "pod", "looked_at"),
    [
        ({}, {}, True),
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 0}, True),
        ({"scopes": ["Terminating"]}, {}, False),
        ({"scopes": ["NotTerminating"]}, {}, True),
        ({"scopes": ["BestEffort"]}, {"containers": [container()]}, True),
        ({"scopes": ["BestEffort"]}, {"containers": [container({"cpu": "1"})]}, False),
        ({"scopes": ["NotBestEffort", "Terminating"]}, {"containers": [container({"cpu": "1"})]}, False),
        ({"scopes": ["PriorityClass"]}, {"priorityClassName": "high"}, True),
        (selector("PriorityClass", "In", "high"), {"priorityClassName": "high"}, True),
        (selector("PriorityClass", "In", "high"), {}, False),
        (selector("PriorityClass", "NotIn", "high"), {}, True),
        (selector("PriorityClass", "DoesNotExist"), {"priorityClassName": "high"}, False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {"affinity": CROSS}, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {"affinity": WEIGHED}, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
    ],
)
def test_scopes(spec: dict[str, Any], pod: dict[str, Any], looked_at: bool) -> None:
    assert matches(spec, PODS, {"metadata": {}, "spec": pod}) is looked_at


def test_scopes_are_about_pods() -> None:
    assert not matches({"scopes": ["BestEffort"]}, SERVICES, {"metadata": {}})
    claim = {"metadata": {}, "spec": {"volumeAttributesClassName": "fast"}}
    assert matches(selector("VolumeAttributesClass", "In", "fast"), CLAIMS, claim)
    assert not matches(selector("VolumeAttributesClass", "In", "slow"), CLAIMS, claim)
    assert not matches(selector("VolumeAttributesClass", "Exists"), PODS, claim)
