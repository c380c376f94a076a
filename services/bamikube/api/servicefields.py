"""The fields of a Service that belong together: what an update may leave out, and what goes with its type.

A person sends the manifest he wrote, without the cluster IP and node ports that the server chose: they are taken over
from the stored service. A client that is older than ``clusterIPs`` knows ``clusterIP`` alone: the other follows. And when
the type changes, what the new type has no use for goes, unless the update changed it: then it is refused.

Source: Kubernetes' "Service" and "IPv4/IPv6 dual-stack" pages, KEP-563, behaviour.
"""

from __future__ import annotations

from bamikube.api.predicates.services import (
    Object,
    externally_accessible,
    has_node_ports,
    needs_cluster_ip,
    needs_health_check,
    needs_node_ports,
    node_ports,
)


def prepare_create(obj: Object) -> None:
    """``clusterIPs`` of a client that gave ``clusterIP`` alone."""
    spec = obj.setdefault("spec", {})
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    _hide(spec)


def prepare_update(new: Object, old: Object) -> None:
    """Make ``new`` what may follow ``old``, in place; ``old`` is read only."""
    after, before = new.setdefault("spec", {}), old.get("spec") or {}
    _take_over(after, before)
    _pair(after, before)
    _drop(after, before)
    _hide(after)
    if after.get("type") != "LoadBalancer" and (new.get("status") or {}).get("loadBalancer"):
        new["status"] = {**new["status"], "loadBalancer": {}}


def _take_over(after: Object, before: Object) -> None:
    """What was allocated and is left out stays."""
    if needs_cluster_ip(before) and needs_cluster_ip(after):
        for field in ("clusterIP", "clusterIPs"):
            if not after.get(field) and before.get(field):
                after[field] = before[field]
    if needs_node_ports(before) and needs_node_ports(after):
        used = set(node_ports(before)) & set(node_ports(after))
        named = {port.get("name", ""): port.get("nodePort") for port in before.get("ports") or ()}
        for port in after.get("ports") or ():
            known = named.get(port.get("name", ""))
            if not port.get("nodePort") and known and known not in used:
                port["nodePort"] = known
    port = before.get("healthCheckNodePort")
    if port and needs_health_check(before) and needs_health_check(after):
        after["healthCheckNodePort"] = after.get("healthCheckNodePort") or port


def _pair(after: Object, before: Object) -> None:
    """``clusterIP`` and the first of ``clusterIPs`` say the same, whichever of them the client knows."""
    one, several = after.get("clusterIP") or "", after.get("clusterIPs") or []
    was, were = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if were and not several and one == was:
        after["clusterIPs"] = list(were)
    if one != was and several == were:
        if was and not one:
            after.pop("clusterIPs", None)
        else:
            after["clusterIPs"] = [one]


def _drop(after: Object, before: Object) -> None:
    """What the new type has no use for goes, if the update left it as it was."""
    if needs_cluster_ip(before) and not needs_cluster_ip(after):
        if _same(after, before, "clusterIP") and _same(after, before, "clusterIPs"):
            after.pop("clusterIP", None)
            after.pop("clusterIPs", None)
        for field in ("ipFamilies", "ipFamilyPolicy"):
            _drop_same(after, before, field)
    ends = has_node_ports(before) and not has_node_ports(after)
    if ends and set(node_ports(after)) <= set(node_ports(before)):
        for port in after.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_check(before) and not needs_health_check(after):
        _drop_same(after, before, "healthCheckNodePort")
    if before.get("type") == "LoadBalancer" and after.get("type") != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            _drop_same(after, before, field)
    if externally_accessible(before) and not externally_accessible(after):
        _drop_same(after, before, "externalTrafficPolicy")


def _hide(spec: Object) -> None:
    """A service that is only a name has no inner traffic; Kubernetes shows none."""
    if spec.get("type") == "ExternalName" and spec.get("internalTrafficPolicy") in ("Cluster", "Local"):
        del spec["internalTrafficPolicy"]


def _same(after: Object, before: Object, field: str) -> bool:
    return (after.get(field) or None) == (before.get(field) or None)


def _drop_same(after: Object, before: Object, field: str) -> None:
    if field in after and after[field] == before.get(field):
        del after[field]
