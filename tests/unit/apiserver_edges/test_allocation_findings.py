"""What is found wrong between services and the records of what they hold, in Kubernetes' words."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from bamikube.api.times import stamp
from bamikube.apiserver.allocators.judging import Finding, of_address, of_ports, of_service

Object = dict[str, Any]
NETWORKS = [ipaddress.ip_network("10.96.0.0/16"), ipaddress.ip_network("fd00::/112")]
NOW = 1_800_000_000.0


def service(name: str = "web", *ips: str, **spec: Any) -> Object:
    listed = {"clusterIP": ips[0], "clusterIPs": list(ips)} if ips else {}
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "ClusterIP", **listed, **spec},
    }


def record(ip: str, owner: str = "web", *, made: bool = True, age: float = 100.0, **parent: str) -> Object:
    family = "IPv6" if ":" in ip else "IPv4"
    labels = {
        "ipaddress.kubernetes.io/ip-family": family,
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" if made else "me",
    }
    metadata = {"name": ip, "labels": labels, "creationTimestamp": stamp(NOW - age)}
    ref = {"resource": "services", "namespace": "default", "name": owner, **parent}
    return {"metadata": metadata, "spec": {"parentRef": ref}}


WEB = service("web", "10.96.0.7", "FD00::7")


@pytest.mark.parametrize(
    ("records", "services", "expected"),
    [
        ([record("10.96.0.7"), record("fd00::7")], [], []),
        (
            [record("10.96.0.7")],
            [],
            [("create", "fd00::7", "ClusterIPNotAllocated", "Cluster IP [IPv6]: fd00::7 is not allocated; repairing")],
        ),
        (
            [record("10.96.0.7", resource="gateways"), record("fd00::7")],
            [],
            [(
                "create", "10.96.0.7", "ClusterIPNotAllocated",
                "the ClusterIP [IPv4]: 10.96.0.7 for Service default/web has a wrong reference; repairing",
            )],
        ),
        (
            [record("10.96.0.7", "gone"), record("fd00::7")],
            [],
            [(
                "create", "10.96.0.7", "ClusterIPNotAllocated",
                "the ClusterIP [IPv4]: 10.96.0.7 for Service default/web has a wrong reference; repairing",
            )],
        ),
        (
            [record("10.96.0.7", "other"), record("fd00::7")],
            [service("other", "10.96.0.7")],
            [(
                "", "10.96.0.7", "ClusterIPAlreadyAllocated",
                "Cluster IP [IPv4]:10.96.0.7 was assigned to multiple services; please recreate service",
            )],
        ),
        ([record("10.96.0.7", made=False), record("fd00::7")], [], [("create", "10.96.0.7", "", "")]),
    ],
)  # fmt: skip
def test_cluster_ips(records: list[Object], services: list[Object], expected: list[tuple[str, ...]]) -> None:
    by_ip = {each["metadata"]["name"]: each for each in records}
    by_name = {each["metadata"]["name"]: each for each in [WEB, *services]}
    found = of_service(WEB, by_ip.get, lambda _, name: by_name.get(name), NETWORKS)
    assert [
        (each.action, each.value, *((each.event[0], each.event[2]) if each.event else ("", "")))
        for each in found
    ] == expected


def test_an_address_outside_of_all_ranges() -> None:
    found = of_service(service("web", "10.97.0.1"), lambda _: None, lambda *_: None, NETWORKS)
    note = "Cluster IP [IPv4]: 10.97.0.1 is not within any configured Service CIDR; please recreate service"
    assert found == [Finding("", "10.97.0.1", ("ClusterIPOutOfRange", "ClusterIPAllocation", note))]
    for other in (service("h", "None"), service("e", type="ExternalName"), service("n")):
        assert of_service(other, lambda _: None, lambda *_: None, NETWORKS) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record("10.96.0.7"), None),
        (record("fd00::7"), None),
        (record("10.96.0.9", made=False), None),
        (
            record("10.96.0.9"),
            ("IPAddressWrongReference", "IPAddress: 10.96.0.9 for Service default/web has a wrong reference; cleaning up"),
        ),
        (
            record("10.96.0.9", "gone"),
            ("IPAddressNotAllocated", "IPAddress: 10.96.0.9 for Service default/gone appears to have leaked: cleaning up"),
        ),
        (
            record("10.96.0.7", group="a.io", resource="things"),
            (
                "IPAddressNotAllocated",
                "IPAddress 10.96.0.7 appears to have been modified, not referencing a Service "
                "&{a.io things default web}: cleaning up",
            ),
        ),
    ],
)  # fmt: skip
def test_addresses(given: Object, expected: tuple[str, str] | None) -> None:
    found = of_address(given, lambda _, name: WEB if name == "web" else None, NOW)
    if expected is None:
        assert found is None
    else:
        assert found is not None and found.action == "delete" and found.event is not None
        assert (found.event[0], found.event[2]) == expected


def test_an_address_may_be_without_its_service_for_a_minute() -> None:
    found = of_address(record("10.96.0.9", "gone", age=20.0), lambda *_: None, NOW)
    assert found == Finding("", "10.96.0.9", again=40.0)


def test_node_ports() -> None:
    def ported(name: str, *numbers: int, **spec: Any) -> Object:
        ports = [{"port": number, "nodePort": number} for number in numbers]
        return service(name, type="NodePort", ports=ports, **spec)

    services = [ported("a", 30001, 30002), ported("b", 30002), ported("c", 20000)]
    services.append(
        service("d", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30009)
    )
    found = of_ports(services, {30002, 30005}, 30000, 32767)
    assert [
        (about.get("metadata", {}).get("name"), each.action, each.value, each.event and each.event[2])
        for about, each in found
    ] == [
        ("a", "create", "30001", "Port 30001 is not allocated; repairing"),
        ("b", "", "30002", "Port 30002 was assigned to multiple services; please recreate service"),
        ("c", "", "20000", "Port 20000 is not within the port range 30000-32767; please recreate service"),
        ("d", "create", "30009", "Port 30009 is not allocated; repairing"),
        (None, "delete", "30005", None),
    ]
