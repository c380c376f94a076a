"""Validation speaks Kubernetes' words: field, reason and message of every kind of fault."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import defaults, schema, strategy, table, validation


def made(obj: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server would validate it on create."""
    resource = table.by_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    if resource.namespaced:
        obj["metadata"].setdefault("namespace", "default")
    schema.ensure(resource, obj, "Strict")
    defaults.apply(resource, obj)
    strategy.prepare_create(resource, obj)
    return obj


def faults(obj: dict[str, Any]) -> list[str]:
    resource = table.by_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    return [f"{cause.field}: {cause.message}" for cause in validation.validate_create(resource, made(obj))]


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    resource = table.by_kind(old["apiVersion"], old["kind"])
    assert resource is not None
    strategy.prepare_update(resource, new, old)
    return [f"{cause.field}: {cause.message}" for cause in validation.validate_update(resource, new, old)]


def pod(**spec: Any) -> dict[str, Any]:
    spec.setdefault("containers", [{"name": "a", "image": "a"}])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}


def deployment(**spec: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "a", "image": "a"}]},
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": base | spec}


def service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 80}]} | spec,
    }


def container(**more: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "a", "image": "a"} | more])


def test_good_objects_have_no_faults() -> None:
    assert faults(pod()) == []
    assert faults(deployment()) == []
    assert faults(service()) == []


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod(containers=[]), "spec.containers: Required value"),
        (
            pod(containers=[{"name": "a", "image": "a"}, {"name": "a", "image": "a"}]),
            'spec.containers[1].name: Duplicate value: "a"',
        ),
        (container(image=""), "spec.containers[0].image: Required value"),
        (
            container(ports=[{"containerPort": 70000}]),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container(volumeMounts=[{"name": "x", "mountPath": "/x"}]),
            'spec.containers[0].volumeMounts[0].name: Not found: "x"',
        ),
        (
            container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            container(imagePullPolicy="Sometimes"),
            'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": '
            'supported values: "Always", "IfNotPresent", "Never"',
        ),
        (
            container(readinessProbe={}),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            pod(restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"',
        ),
        (
            deployment(replicas=-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            deployment(selector={"matchLabels": {"app": "b"}}),
            'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`',
        ),
        (
            deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (service(ports=[]), "spec.ports: Required value"),
        (service(ports=[{"port": 80}, {"port": 81}]), "spec.ports[0].name: Required value"),
        (
            service(type="Magic"),
            'spec.type: Unsupported value: "Magic": '
            'supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
        ),
        (service(type="ExternalName"), "spec.externalName: Required value"),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {}},
            "metadata.name: Required value: name or generateName is required",
        ),
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "a:b"},
                "roleRef": {"kind": "Rolle", "name": "x"},
            },
            'roleRef.kind: Unsupported value: "Rolle": supported values: "Role", "ClusterRole"',
        ),
        (
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "a"},
                "data": {"x": "a" * (1024 * 1024 + 1)},
            },
            "[]: Too long: may not be more than 1048576 bytes",
        ),
    ],
)
def test_faults_of_new_objects(obj: dict[str, Any], expected: str) -> None:
    assert expected in faults(obj)


def test_names_follow_the_rule_of_their_kind() -> None:
    assert faults({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a.b"}}) == []
    assert faults({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b"}})
    assert faults(service() | {"metadata": {"name": "1a"}})
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:x"},
    }
    assert faults(role) == []


def test_a_pod_changes_its_image_and_little_else() -> None:
    old = made(pod())
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "b"
    new["spec"]["tolerations"] = [{"key": "x", "operator": "Exists", "effect": "NoExecute"}]
    assert changes(old, new) == []
    new["spec"]["hostNetwork"] = True
    assert changes(old, new)[0].startswith("spec: Forbidden: pod updates may not change fields other than")


def test_selectors_are_immutable() -> None:
    old = made(deployment())
    new = copy.deepcopy(old)
    new["spec"]["selector"]["matchLabels"]["more"] = "x"
    new["spec"]["template"]["metadata"]["labels"]["more"] = "x"
    expected = 'spec.selector: Invalid value: {"matchLabels":{"app":"a","more":"x"}}: field is immutable'
    assert changes(old, new) == [expected]


def test_role_refs_secrets_and_cluster_ips_are_immutable() -> None:
    binding = made(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "a"},
            "roleRef": {"kind": "ClusterRole", "name": "x"},
        }
    )
    other = copy.deepcopy(binding)
    other["roleRef"]["name"] = "y"
    assert "cannot change roleRef" in changes(binding, other)[0]

    secret = made({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "immutable": True})
    other = copy.deepcopy(secret)
    other["data"] = {"a": "YQ=="}
    assert changes(secret, other) == ["data: Forbidden: field is immutable when `immutable` is set"]

    old = made(service(clusterIP="10.96.0.7"))
    other = copy.deepcopy(old)
    other["spec"]["clusterIP"], other["spec"]["clusterIPs"] = "10.96.0.8", ["10.96.0.8"]
    assert "may not change once set" in changes(old, other)[0]


def test_metadata_that_may_not_change() -> None:
    old = made({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "1"}})
    new = copy.deepcopy(old)
    new["metadata"]["uid"] = "2"
    assert changes(old, new) == ['metadata.uid: Invalid value: "2": field is immutable']


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("*/5 * * * *", True),
        ("0 0 1 jan mon", True),
        ("@hourly", True),
        ("60 * * * *", False),
        ("* * * *", False),
        ("5-1 * * * *", False),
        ("TZ=UTC * * * * *", False),
    ],
)
def test_schedules(text: str, good: bool) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "a"},
        "spec": {"schedule": text, "jobTemplate": {"spec": {"template": template}}},
    }
    assert (faults(cron) == []) is good


def test_parts_added_after_defaulting_do_not_count_as_changes() -> None:
    old = made(pod())
    old["spec"]["volumes"] = [{"name": "late", "configMap": {"name": "x"}}]
    new = copy.deepcopy(old)
    defaults.apply(table.by_name("pods"), new)
    assert new["spec"] != old["spec"]
    assert changes(old, new) == []


def test_finalizers_of_core_kinds_are_qualified() -> None:
    """Custom resources, definitions and webhooks may have any; see the API conventions."""
    one = pod()
    one["metadata"]["finalizers"] = ["orphan", "a.example.com/b", "mine"]
    expected = 'metadata.finalizers[2]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    assert faults(one) == [expected]
    old = made(pod())
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = ["mine"]
    assert changes(old, new)[0].startswith("metadata.finalizers[0]: ")
    webhooks = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "a", "finalizers": ["mine"]},
    }
    assert faults(webhooks) == []
