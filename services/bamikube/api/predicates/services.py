"""What a Service of a type has: cluster IPs, node ports, a port for health checks. All ask a service's ``spec``."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

HEADLESS = "None"
FAMILIES = ("IPv4", "IPv6")
WITH_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")


def other_family(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"


def needs_cluster_ip(spec: Object) -> bool:
    """Every type but ExternalName; "None" counts as one."""
    return bool(spec.get("type") != "ExternalName")


def is_headless(spec: Object) -> bool:
    return spec.get("clusterIPs") == [HEADLESS]


def has_node_ports(spec: Object) -> bool:
    """Whether the type knows node ports, given or not."""
    return spec.get("type") in ("NodePort", "LoadBalancer")


def needs_node_ports(spec: Object) -> bool:
    """Whether each of its ports gets one."""
    wanted = spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort" or (spec.get("type") == "LoadBalancer" and wanted)


def needs_health_check(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def externally_accessible(spec: Object) -> bool:
    return has_node_ports(spec) or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def node_ports(spec: Object) -> list[int]:
    """Those its ports have, in order."""
    return [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
