"""Ranges and addresses of services as people and programs meet them: kubectl, the official Python client, two servers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes import client, config, watch

from tests.support.etcd import free_ports
from tests.support.kubectl import Kubectl, find_kubectl
from tests.support.private_api import PrivateApi

RANGE = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}
PORTS = [{"port": 80}]


class Small(PrivateApi):
    """A dual-stack cluster with six IPv4 addresses for services, and a second API server."""

    second = 0

    def server_flags(self, port: int, etcd: Any) -> list[str]:
        return [*super().server_flags(port, etcd), "--service-cluster-ip-range=10.90.0.0/29,fd00:90::/112"]

    def start(self) -> None:
        super().start()
        (self.second,) = free_ports(1)
        self.spawn("apiserver", *self.server_flags(self.second, [self.etcd.endpoint]))
        self._wait("apiserver", f"https://127.0.0.1:{self.second}/readyz", self.context)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    one = Small(tmp_path_factory.mktemp("small"))
    try:
        one.start()
        yield one
    finally:
        one.stop()


def connect(api: PrivateApi, port: int = 0) -> client.ApiClient:
    connection = config.new_client_from_config(str(api.kubeconfig))
    if port:
        connection.configuration.host = f"https://127.0.0.1:{port}"
    return connection


def ready(cidr: Any) -> Any:
    found = [each for each in (cidr.status.conditions or []) if each.type == "Ready"]
    return found[0] if found else None


def test_a_full_range_is_extended(small: Small) -> None:
    kubectl = Kubectl(small.kubeconfig)
    kubectl("wait", "--for=condition=Ready", "servicecidr/kubernetes", "--timeout=20s")
    unused = RANGE | {"metadata": {"name": "unused"}, "spec": {"cidrs": ["10.91.0.0/24"]}}
    kubectl("create", "-f", "-", stdin=json.dumps(unused))
    kubectl("wait", "--for=condition=Ready", "servicecidr/unused", "--timeout=20s")
    began = time.time()
    kubectl("delete", "servicecidr", "unused", "--wait=false")

    for number in range(6):
        kubectl("create", "service", "clusterip", f"s{number}", "--tcp=80")
    refused = kubectl.fails("create", "service", "clusterip", "late", "--tcp=80")
    assert "Internal error occurred: failed to allocate a serviceIP: range is full" in refused
    more = RANGE | {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.92.0.0/28"]}}
    assert (
        kubectl("apply", "-f", "-", stdin=json.dumps(more)) == "servicecidr.networking.k8s.io/more created\n"
    )
    kubectl(
        "create", "service", "clusterip", "late", "--tcp=80", f"--server=https://127.0.0.1:{small.second}"
    )
    address = kubectl("get", "service", "late", "-o", "jsonpath={.spec.clusterIP}")
    assert address.startswith("10.92.0.")
    table = kubectl("get", "ipaddresses")
    assert f"{address} " in table and "services/default/late" in table, table
    for version in ("1.27", "1.33"):
        assert "10.90.0.0/29,fd00:90::/112" in Kubectl(small.kubeconfig, path=find_kubectl(version))(
            "get", "servicecidrs.networking.k8s.io"
        )
    both = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "both"},
        "spec": {"ports": PORTS, "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(both))
    six, four = kubectl("get", "service", "both", "-o", "jsonpath={.spec.clusterIPs[*]}").split()
    assert six.startswith("fd00:90::") and four.startswith("10.92.0.")
    both["spec"] = {"ports": PORTS, "ipFamilyPolicy": "SingleStack"}
    kubectl("apply", "-f", "-", stdin=json.dumps(both))
    assert kubectl("get", "service", "both", "-o", "jsonpath={.spec.clusterIPs[*]}") == six
    assert four not in kubectl("get", "ipaddresses")

    kubectl("delete", "servicecidr", "more", "--wait=false")
    condition = ("get", "servicecidr", "more", "-o", "jsonpath={.status.conditions[0]}")
    deadline = time.monotonic() + 20
    while json.loads(kubectl(*condition))["status"] != "False" and time.monotonic() < deadline:
        time.sleep(0.05)
    said = json.loads(kubectl(*condition))
    assert (said["reason"], said["message"]) == (
        "Terminating",
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
    )
    refused = kubectl.fails("create", "service", "clusterip", "later", "--tcp=80")
    assert "range is full" in refused
    kubectl("delete", "ipaddress", address)  # by mistake: it comes back, and the service tells of it
    kubectl("wait", "--for=create", f"ipaddress/{address}", "--timeout=20s")
    deadline = time.monotonic() + 20
    while (told := "ClusterIPNotAllocated") not in (shown := kubectl("describe", "service", "late")):
        assert time.monotonic() < deadline, (told, shown)
        time.sleep(0.05)
    if time.time() - began < 9:  # nobody needs it, but it waits ten seconds
        assert kubectl("get", "servicecidr", "unused", "-o", "jsonpath={.metadata.deletionTimestamp}")


def test_two_servers_give_no_address_twice(small: Small) -> None:
    networking = client.NetworkingV1Api(connect(small))
    body = {**RANGE, "metadata": {"name": "race"}, "spec": {"cidrs": ["10.93.0.0/27"]}}
    networking.create_service_cidr(body)
    doors = [client.CoreV1Api(connect(small, port)) for port in (small.port, small.second)]

    def create(number: int) -> str:
        service = {"metadata": {"name": f"r{number}"}, "spec": {"ports": PORTS, "ipFamilies": ["IPv4"]}}
        made = doors[number % 2].create_namespaced_service("kube-public", service)
        return str(made.spec.cluster_ip)

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(create, range(30)))
    assert sorted(given, key=lambda ip: int(ip.rsplit(".", 1)[1])) == [f"10.93.0.{n}" for n in range(1, 31)]
    listed = networking.list_ip_address(label_selector="ipaddress.kubernetes.io/ip-family=IPv4")
    owners = {each.metadata.name: each.spec.parent_ref.name for each in listed.items}
    assert {owners[ip] for ip in given} == {f"r{number}" for number in range(30)}


def test_the_api_of_service_cidrs(private: PrivateApi) -> None:
    """After Kubernetes' conformance test of the same name, and its status subresource."""
    api = client.NetworkingV1Api(connect(private))
    assert api.read_service_cidr("kubernetes").spec.cidrs == ["10.96.0.0/12"]
    patched = api.patch_service_cidr("kubernetes", {"metadata": {"annotations": {"patched": "true"}}})
    assert patched.metadata.annotations["patched"] == "true"
    while True:
        current = api.read_service_cidr("kubernetes")
        current.metadata.annotations["updated"] = "true"
        try:
            updated = api.replace_service_cidr("kubernetes", current)
            break
        except client.ApiException as problem:
            assert problem.status == 409
    assert updated.metadata.annotations["updated"] == "true"
    assert "kubernetes" in [each.metadata.name for each in api.list_service_cidr().items]
    for event in watch.Watch().stream(api.list_service_cidr, timeout_seconds=5):
        assert event["type"] == "ADDED" and event["object"].kind == "ServiceCIDR"
        break
    body = {**RANGE, "metadata": {"name": "example"}, "spec": {"cidrs": ["203.0.113.0/24"]}}
    api.create_service_cidr(body)
    deadline = time.monotonic() + 20
    while (found := ready(api.read_service_cidr_status("example"))) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found.status, found.message, found.reason) == ("True", "Kubernetes Service CIDR is ready", "")
    mine = {"type": "Mine", "status": "True", "reason": "ByHand", "message": "m"}
    mine["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    said = {"metadata": {"annotations": {"by": "status"}}, "status": {"conditions": [mine]}}
    answered = api.patch_service_cidr_status("example", said)
    assert {each.type for each in answered.status.conditions} == {"Ready", "Mine"}
    assert not (answered.metadata.annotations or {}).get("by")  # not the status' to change
    answered.status.conditions[0].message = "replaced"
    answered.spec.cidrs = ["198.51.100.0/24"]
    replaced = api.replace_service_cidr_status("example", answered)
    assert replaced.status.conditions[0].message == "replaced" and replaced.spec.cidrs == ["203.0.113.0/24"]
    with pytest.raises(client.ApiException) as fixed:
        api.patch_service_cidr("example", {"spec": {"cidrs": ["198.51.100.0/24"]}})
    assert 'spec.cidrs[0]: Invalid value: "198.51.100.0/24": field is immutable' in fixed.value.body.replace(
        "\\", ""
    )
    api.delete_service_cidr("example")
    held = api.read_service_cidr("example").metadata
    assert held.deletion_timestamp and held.finalizers == ["networking.k8s.io/service-cidr-finalizer"]


def test_the_api_of_ip_addresses(private: PrivateApi) -> None:
    """After Kubernetes' conformance test of the same name."""
    api = client.NetworkingV1Api(connect(private))
    parent = {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}
    for name, kind in (("255.255.255.255", "broadcast"), ("fe80::42:1dff:fe84:f9e2", "link-local")):
        metadata = {"name": name, "labels": {"type": kind}}
        api.create_ip_address({"metadata": metadata, "spec": {"parentRef": parent}})
    name = "255.255.255.255"
    patched = api.patch_ip_address(name, {"metadata": {"annotations": {"patched": "true"}}})
    assert patched.metadata.annotations["patched"] == "true"
    patched.metadata.annotations["updated"] = "true"
    assert api.replace_ip_address(name, patched).metadata.annotations["updated"] == "true"
    assert api.read_ip_address(name).spec.parent_ref.group == "mygroup"
    assert len(api.list_ip_address(label_selector="type=broadcast").items) == 1
    for event in watch.Watch().stream(
        api.list_ip_address, label_selector="type=broadcast", timeout_seconds=5
    ):
        assert event["object"].metadata.name == name
        break
    with pytest.raises(client.ApiException) as fixed:
        api.patch_ip_address(name, {"spec": {"parentRef": {"name": "other"}}})
    assert fixed.value.status == 422 and "field is immutable" in fixed.value.body
    with pytest.raises(client.ApiException) as odd:
        api.create_ip_address({"metadata": {"name": "10.01.0.1"}, "spec": {"parentRef": parent}})
    assert odd.value.status == 422
    api.delete_ip_address(name)
    api.delete_collection_ip_address(label_selector="type=link-local")
    assert api.list_ip_address(label_selector="type=link-local").items == []
