"""What an update of a Service may leave out, and what goes with its type."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import strategy, table, validation

Object = dict[str, Any]
SERVICES = table.by_name("services")


def service(**spec: Any) -> Object:
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec, "status": {"loadBalancer": {}}}


def port(name: str, number: int, node: int = 0, protocol: str = "TCP") -> Object:
    found = {"name": name, "port": number, "protocol": protocol, "targetPort": number}
    return found | ({"nodePort": node} if node else {})


CLUSTER: Object = {
    "type": "ClusterIP",
    "clusterIP": "10.0.0.5",
    "clusterIPs": ["10.0.0.5", "fd00::5"],
    "ipFamilies": ["IPv4", "IPv6"],
    "ipFamilyPolicy": "RequireDualStack",
    "internalTrafficPolicy": "Cluster",
    "ports": [port("a", 80)],
}
NODE: Object = {
    **CLUSTER,
    "type": "NodePort",
    "externalTrafficPolicy": "Cluster",
    "ports": [port("a", 80, 30080), port("b", 53, 30053)],
}
BALANCED: Object = {
    **NODE,
    "type": "LoadBalancer",
    "externalTrafficPolicy": "Local",
    "healthCheckNodePort": 30999,
    "allocateLoadBalancerNodePorts": True,
    "loadBalancerClass": "a.io/b",
}


def updated(old: Object, new: Object) -> Object:
    after = service(**copy.deepcopy(new))
    before = service(**copy.deepcopy(old))
    strategy.prepare_update(SERVICES, after, before)
    found: Object = after["spec"]
    return found


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ({}, ["10.0.0.5", "fd00::5"]),
        ({"clusterIP": "10.0.0.5"}, ["10.0.0.5", "fd00::5"]),  # a client that knows no clusterIPs
        ({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"]}, ["10.0.0.5"]),
        ({"clusterIP": "10.0.0.6", "clusterIPs": ["10.0.0.5", "fd00::5"]}, ["10.0.0.6"]),
        ({"clusterIPs": ["10.0.0.5", "fd00::6"]}, ["10.0.0.5", "fd00::6"]),
    ],
)
def test_addresses(given: Object, addresses: list[str]) -> None:
    found = updated(CLUSTER, {"type": "ClusterIP", "ports": [port("a", 80)], **given})
    assert found["clusterIPs"] == addresses and found["clusterIP"] == addresses[0]


def test_node_ports_follow_the_names_of_ports() -> None:
    moved = {"type": "NodePort", "ports": [port("b", 54), port("c", 81), port("a", 80, protocol="UDP")]}
    assert [each.get("nodePort") for each in updated(NODE, moved)["ports"]] == [30053, None, 30080]
    used = {"type": "NodePort", "ports": [port("a", 80), port("z", 81, 30080)]}
    assert [each.get("nodePort") for each in updated(NODE, used)["ports"]] == [None, 30080]


def test_a_service_that_becomes_a_name_keeps_nothing() -> None:
    found = updated(BALANCED, {**BALANCED, "type": "ExternalName", "externalName": "a.io"})
    assert found == {
        "type": "ExternalName",
        "externalName": "a.io",
        "ports": [port("a", 80), port("b", 53)],
    }
    changed = updated(CLUSTER, {**CLUSTER, "type": "ExternalName", "clusterIPs": ["10.0.0.6"]})
    assert changed["clusterIPs"] == ["10.0.0.6"]  # for validation to refuse


def test_a_balanced_service_that_is_balanced_no_more() -> None:
    found = updated(BALANCED, {**BALANCED, "type": "ClusterIP"})
    assert not {"externalTrafficPolicy", "healthCheckNodePort", "loadBalancerClass"} & set(found)
    assert "allocateLoadBalancerNodePorts" not in found and found["ports"] == [port("a", 80), port("b", 53)]
    kept = updated(BALANCED, {**BALANCED, "type": "ClusterIP", "ports": [port("a", 80, 31000)]})
    assert kept["ports"] == [port("a", 80, 31000)]
    after, before = service(**CLUSTER), service(**BALANCED)
    before["status"] = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    strategy.prepare_update(SERVICES, after, before)
    assert after["status"] == {"loadBalancer": {}}


FAULTS: list[tuple[Object, Object, str]] = [
    (CLUSTER, {"clusterIP": "None", "clusterIPs": ["None"]}, "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": "
     "must be set to 'SingleStack' when releasing the secondary clusterIP"),
    (CLUSTER, {"clusterIPs": ["10.0.0.5", "fd00::6"]},
     'spec.clusterIPs[1]: Invalid value: ["10.0.0.5","fd00::6"]: may not change once set'),
    (CLUSTER, {"ipFamilies": ["IPv6", "IPv4"]},
     'spec.ipFamilies[0]: Invalid value: ["IPv6","IPv4"]: may not change once set'),
    (BALANCED, {"healthCheckNodePort": 31000}, "spec.healthCheckNodePort: Forbidden: field is immutable"),
    (BALANCED, {"loadBalancerClass": None}, "spec.loadBalancerClass: Invalid value: null: may not change once set"),
    (CLUSTER, {"ports": [port("a", 80, 30000)]},
     "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
    (NODE, {"clusterIP": "None", "clusterIPs": ["None"]},
     "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"),
    (NODE, {"externalTrafficPolicy": ""}, "spec.externalTrafficPolicy: Required value"),
    (NODE, {"ports": [port("a", 80, 30080), port("b", 81, 30080)]}, "spec.ports[1].nodePort: Duplicate value: 30080"),
    (CLUSTER, {"type": "ExternalName", "externalName": "a.io"},
     "spec.clusterIPs: Forbidden: may not be set for ExternalName services"),
    (CLUSTER, {"sessionAffinity": "ClientIP"},
     "spec.sessionAffinityConfig: Required value: when session affinity type is ClientIP"),
    (CLUSTER, {"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}},
     "spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None"),
    (CLUSTER, {"ports": [port("a", 80), port("b", 80)]}, 'spec.ports[1]: Duplicate value: '
     '{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}'),
    (CLUSTER, {"externalIPs": ["224.0.0.9"], "externalTrafficPolicy": "Cluster"}, 'spec.externalIPs[0]: Invalid value: '
     '"224.0.0.9": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)'),
    (CLUSTER, {"externalIPs": ["::ffff:127.0.0.1"], "externalTrafficPolicy": "Cluster"}, 'spec.externalIPs[0]: '
     'Invalid value: "::ffff:127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'),
    (CLUSTER, {"internalTrafficPolicy": None}, "spec.internalTrafficPolicy: Required value"),
    (CLUSTER, {"trafficDistribution": "Near"}, 'spec.trafficDistribution: Unsupported value: "Near": supported values: '
     '"PreferClose", "PreferSameNode", "PreferSameZone"'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "change", "fault"), FAULTS)
def test_what_is_refused(old: Object, change: Object, fault: str) -> None:
    new = {key: value for key, value in {**old, **change}.items() if value is not None}
    found = validation.validate_update(SERVICES, service(**new), service(**old))
    assert any(f"{cause.field}: {cause.message}" == fault for cause in found), found


def test_traffic_may_go_to_groups_beyond_the_link() -> None:
    spec = {**CLUSTER, "externalTrafficPolicy": "Cluster", "sessionAffinity": "None"}
    given = service(**spec, externalIPs=["239.1.1.1", "ff05::1", "10.0.0.1"])
    assert validation.validate_update(SERVICES, given, service(**spec)) == []


@pytest.mark.parametrize(
    ("kind", "point", "fault"),
    [
        ("ClusterIP", {"ip": "1.2.3.4"}, "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"),
        ("LoadBalancer", {"ip": "1.2.3.4", "ipMode": "VIP"}, ""),
        ("LoadBalancer", {"hostname": "1.2.3.4"}, 'status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address'),
        ("LoadBalancer", {"hostname": "a.io", "ipMode": "VIP"}, "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set"),
        ("LoadBalancer", {"ip": "1.2.3.4", "ipMode": "NAT"}, 'status.loadBalancer.ingress[0].ipMode: Unsupported value: "NAT": supported values: "Proxy", "VIP"'),
    ],
)  # fmt: skip
def test_what_a_load_balancer_reports(kind: str, point: Object, fault: str) -> None:
    old = service(**{**CLUSTER, "type": kind})
    new = {**old, "status": {"loadBalancer": {"ingress": [point]}}}
    found = [f"{c.field}: {c.message}" for c in validation.validate_status_update(SERVICES, new, old)]
    assert fault in found if fault else found == []
