"""Quotas over HTTP and real etcd: the published conformance behaviours, concurrency, kubectl."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.rest import ApiException

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi

from .conftest import until

Object = dict[str, Any]


def pod(name: str, **requests: str) -> Object:
    named = {key.replace("__", "/").replace("_", "-"): value for key, value in requests.items()}
    resources = {"requests": named, "limits": {k: v for k, v in named.items() if "/" in k}}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "app:1", "resources": resources}]},
    }


def limit(core: client.CoreV1Api, namespace: str, hard: dict[str, str], name: str = "q") -> None:
    """A quota, settled."""
    core.create_namespaced_resource_quota(namespace, {"metadata": {"name": name}, "spec": {"hard": hard}})
    until(
        lambda: (core.read_namespaced_resource_quota(name, namespace).status.hard or {}).keys() == hard.keys()
    )


def used(core: client.CoreV1Api, namespace: str, name: str = "q") -> dict[str, str]:
    return dict(core.read_namespaced_resource_quota(name, namespace).status.used)


def refusal(call: Any, *args: Any, **named: Any) -> str:
    with pytest.raises(ApiException) as caught:
        call(*args, **named)
    assert caught.value.status == 403
    return str(json.loads(caught.value.body)["message"])


def test_the_life_of_a_pod(core: client.CoreV1Api, namespace: str) -> None:
    """ResourceQuota, object count quota, pod: captured, refused beyond, not growing by update, released."""
    hard = {
        "pods": "5",
        "cpu": "1",
        "memory": "500Mi",
        "ephemeral-storage": "50Gi",
        "requests.example.com/dongle": "3",
    }
    limit(core, namespace, hard)
    wants = {"cpu": "500m", "memory": "252Mi", "ephemeral_storage": "30Gi", "example.com__dongle": "2"}
    core.create_namespaced_pod(namespace, pod("one", **wants))
    counted = {
        "pods": "1",
        "cpu": "500m",
        "memory": "252Mi",
        "ephemeral-storage": "30Gi",
        "requests.example.com/dongle": "2",
    }
    assert used(core, namespace) == counted
    message = refusal(core.create_namespaced_pod, namespace, pod("two", cpu="600m", memory="100Mi"))
    assert (
        message
        == 'pods "two" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1'
    )
    message = refusal(
        core.create_namespaced_pod, namespace, pod("two", **{**wants, "cpu": "1m", "memory": "1Mi"})
    )
    assert "requested: ephemeral-storage=30Gi,requests.example.com/dongle=2" in message
    message = refusal(core.create_namespaced_pod, namespace, pod("two", cpu="1m"))
    assert message == 'pods "two" is forbidden: failed quota: q: must specify memory for: c'
    grown = pod("one", **{**wants, "cpu": "5"})["spec"]
    with pytest.raises(ApiException):
        core.patch_namespaced_pod("one", namespace, {"spec": grown})
    assert used(core, namespace) == counted
    core.delete_namespaced_pod("one", namespace, grace_period_seconds=0)
    assert set(used(core, namespace).values()) == {"0"}


def test_counting_objects(core: client.CoreV1Api, namespace: str) -> None:
    """ResourceQuota, object count quota: config map, secret, replication controller, service."""
    hard = dict.fromkeys(("configmaps", "secrets", "replicationcontrollers", "services"), "10")
    limit(core, namespace, hard | {"services.nodeports": "1", "services.loadbalancers": "1"})
    before = int(used(core, namespace)["configmaps"])  # the CA's is there already
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made: Object = {"metadata": {"name": "x"}}
    core.create_namespaced_config_map(namespace, made)
    core.create_namespaced_secret(namespace, made)
    spec = {"replicas": 0, "selector": {"a": "b"}, "template": template}
    core.create_namespaced_replication_controller(namespace, made | {"spec": spec})
    node_port = {"type": "NodePort", "ports": [{"port": 80}]}
    core.create_namespaced_service(namespace, made | {"spec": node_port})
    now = used(core, namespace)
    assert now.pop("configmaps") == str(before + 1)
    assert now == {
        "secrets": "1",
        "replicationcontrollers": "1",
        "services": "1",
        "services.nodeports": "1",
        "services.loadbalancers": "0",
    }
    balancer = {"metadata": {"name": "y"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
    assert "requested: services.nodeports=1" in refusal(core.create_namespaced_service, namespace, balancer)
    core.delete_namespaced_config_map("x", namespace)
    core.delete_namespaced_secret("x", namespace)
    core.delete_namespaced_replication_controller("x", namespace)
    core.delete_namespaced_service("x", namespace)
    # A replication controller goes when the garbage collector has let its pods go.
    until(lambda: used(core, namespace) == dict.fromkeys(now, "0") | {"configmaps": str(before)})


def test_counting_by_group(private: PrivateApi, core: client.CoreV1Api, namespace: str) -> None:
    """ResourceQuota, object count quota, replicaSet; custom resources are counted alike."""
    limit(core, namespace, {"count/replicasets.apps": "5", "count/widgets.quota.example.com": "1"})
    api = config.new_client_from_config(str(private.kubeconfig))
    apps, custom = client.AppsV1Api(api), client.CustomObjectsApi(api)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    apps.create_namespaced_replica_set(namespace, {"metadata": {"name": "r"}, "spec": spec})
    assert used(core, namespace)["count/replicasets.apps"] == "1"
    apps.delete_namespaced_replica_set("r", namespace)
    assert used(core, namespace)["count/replicasets.apps"] == "0"
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "metadata": {"name": "widgets.quota.example.com"},
        "spec": {"group": "quota.example.com", "names": names, "scope": "Namespaced", "versions": [version]},
    }
    client.ApiextensionsV1Api(api).create_custom_resource_definition(definition)
    where = ("quota.example.com", "v1", namespace, "widgets")

    def listed() -> bool:
        try:
            return bool(custom.list_namespaced_custom_object(*where))
        except ApiException as error:
            assert error.status == 404
            return False

    until(listed)
    body = {"apiVersion": "quota.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}}
    custom.create_namespaced_custom_object(*where, body)
    body["metadata"] = {"name": "b"}
    message = refusal(custom.create_namespaced_custom_object, *where, body)
    assert "exceeded quota: q, requested: count/widgets.quota.example.com=1" in message
    custom.delete_namespaced_custom_object(*where, "a")
    assert used(core, namespace)["count/widgets.quota.example.com"] == "0"
    custom.create_namespaced_custom_object(*where, body)


def test_limits_can_be_changed_and_a_quota_can_go(core: client.CoreV1Api, namespace: str) -> None:
    """ResourceQuota, update and delete."""
    limit(core, namespace, {"cpu": "1", "memory": "500Mi"})
    spec = {"hard": {"cpu": "2", "memory": "1Gi"}}
    patched = core.patch_namespaced_resource_quota("q", namespace, {"spec": spec})
    assert patched.spec.hard == spec["hard"]
    until(lambda: core.read_namespaced_resource_quota("q", namespace).status.hard == spec["hard"], 5)
    core.delete_namespaced_resource_quota("q", namespace)
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_resource_quota("q", namespace)
    assert caught.value.status == 404
    core.create_namespaced_pod(namespace, pod("free"))


def test_scopes(core: client.CoreV1Api, namespace: str) -> None:
    for name, scope in (("ends", "Terminating"), ("stays", "NotTerminating"), ("poor", "BestEffort")):
        spec = {"hard": {"pods": "1"}, "scopes": [scope]}
        core.create_namespaced_resource_quota(namespace, {"metadata": {"name": name}, "spec": spec})
    for name in ("ends", "stays", "poor"):
        until(lambda name=name: core.read_namespaced_resource_quota(name, namespace).status.used)
    task = pod("task", cpu="1m")
    task["spec"]["activeDeadlineSeconds"] = 600
    core.create_namespaced_pod(namespace, task)
    core.create_namespaced_pod(namespace, pod("service"))
    numbers = [used(core, namespace, name)["pods"] for name in ("ends", "stays", "poor")]
    assert numbers == ["1", "1", "1"]
    assert "exceeded quota: stays" in refusal(core.create_namespaced_pod, namespace, pod("more", cpu="1m"))
    task["metadata"]["name"] = "task-2"
    assert "exceeded quota: ends" in refusal(core.create_namespaced_pod, namespace, task)


def test_fifty_at_once_against_ten(private: PrivateApi, core: client.CoreV1Api, namespace: str) -> None:
    limit(core, namespace, {"pods": "10"})

    def create(number: int) -> int:
        try:
            core.create_namespaced_pod(namespace, pod(f"p{number}"))
        except ApiException as error:
            return int(error.status)
        return 201

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(create, range(50)))
    assert (codes.count(201), codes.count(403)) == (10, 40)
    assert len(core.list_namespaced_pod(namespace).items) == 10
    assert used(core, namespace) == {"pods": "10"}
    core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)
    assert used(core, namespace) == {"pods": "0"}


def test_as_kubectl_shows_it(kubectl: Kubectl) -> None:
    kubectl("create", "quota", "q", "--hard=pods=1,services=2")
    until(
        lambda: (
            ["pods", "0", "1"] in [line.split() for line in kubectl("describe", "quota", "q").splitlines()]
        )
    )
    kubectl("run", "one", "--image=app:1")
    text = kubectl.fails("run", "two", "--image=app:1")
    assert (
        'Error from server (Forbidden): pods "two" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, '
        "limited: pods=1" in text
    )
    text = kubectl.fails("run", "two", "--image=app:1", "--dry-run=server")
    assert "exceeded quota: q" in text
    assert "pods: 1/1, services: 0/2" in kubectl("get", "quota", "q")


def test_a_controller_meets_its_quota(kubectl: Kubectl) -> None:
    """Whoever makes pods goes as far as the quota lets him, and on when there is room again."""
    kubectl("create", "quota", "q", "--hard=pods=2")
    until(lambda: "pods: 0/2" in kubectl("get", "quota", "q"))
    kubectl("create", "deployment", "web", "--image=app:1", "--replicas=3")
    until(lambda: "pods: 2/2" in kubectl("get", "quota", "q"))
    until(lambda: "exceeded quota: q" in kubectl("get", "replicaset", "-o", "yaml"))
    kubectl("patch", "quota", "q", "-p", '{"spec":{"hard":{"pods":"5"}}}')
    until(lambda: "pods: 3/5" in kubectl("get", "quota", "q"))
