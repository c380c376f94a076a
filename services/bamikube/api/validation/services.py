"""Rules of services.

Cluster IPs and IP families are looked at twice: here, and before that in the allocation
(``apiserver/allocators/families.py``), which knows what the cluster has and needs them well-formed.

Source: the API reference of v1.34, "IPv4/IPv6 dual-stack".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_label, is_dns1123_subdomain, is_qualified_name
from bamikube.api.predicates.services import (
    FAMILIES,
    HEADLESS,
    WITH_CLUSTER_IP,
    externally_accessible,
    is_headless,
    needs_cluster_ip,
    needs_health_check,
)
from bamikube.api.validation.containers import PROTOCOLS, port_ref
from bamikube.api.validation.ingresses import load_balancer_status
from bamikube.api.validation.network import endpoint_address
from bamikube.api.validation.rules import (
    IMMUTABLE,
    cidr,
    duplicate,
    forbidden,
    invalid,
    ip,
    labels,
    not_supported,
    one_of,
    port_number,
    required,
)

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_DAY = 86400  # seconds
_SET_ONCE = "may not change once set"
_BALANCERS_ONLY = "may only be used when `type` is 'LoadBalancer'"


def _service(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    kind = spec.get("type") or ""
    causes: list[Cause] = []
    if _MODE in annotations and _HINTS in annotations and annotations[_MODE] != annotations[_HINTS]:
        detail = f"must match annotations[{_HINTS}] when both are specified"
        causes.append(invalid(f"metadata.annotations[{_MODE}]", annotations[_MODE], detail))
    if not spec.get("ports") and not is_headless(spec) and kind != "ExternalName":
        causes.append(required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        detail = f"may not be set to 'None' for {kind} services"
        causes.append(invalid("spec.clusterIPs[0]", HEADLESS, detail))
    elif kind == "ExternalName":
        causes += _external_name(spec)
    causes += _each_port(spec)
    causes += labels("spec.selector", spec.get("selector"))
    causes += _affinity(spec)
    causes += cluster_ip_fields(spec)
    for index, each in enumerate(spec.get("externalIPs") or ()):
        causes += endpoint_address(f"spec.externalIPs[{index}]", each)
    causes += one_of("spec.type", kind, TYPES)
    causes += _ports_together(spec)
    causes += _load_balancer(spec, annotations)
    causes += _traffic(spec)
    return causes


def _external_name(spec: dict[str, Any]) -> list[Cause]:
    detail = "may not be set for ExternalName services"
    fields = ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
    causes = [forbidden(f"spec.{name}", detail) for name in fields if spec.get(name)]
    target = (spec.get("externalName") or "").removesuffix(".")
    if not target:
        return [*causes, required("spec.externalName")]
    return causes + [
        invalid("spec.externalName", target, message) for message in is_dns1123_subdomain(target)
    ]


def _each_port(spec: dict[str, Any]) -> list[Cause]:
    ports = spec.get("ports") or []
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"spec.ports[{index}]", port.get("name")
        if name:
            causes += [invalid(f"{path}.name", name, message) for message in is_dns1123_label(name)]
            if name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        elif len(ports) > 1:
            causes.append(required(f"{path}.name"))
        causes += port_number(f"{path}.port", port.get("port", 0))
        causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        causes += port_ref(f"{path}.targetPort", port.get("targetPort"))
        protocol = port.get("appProtocol")
        if protocol is not None:
            path = f"{path}.appProtocol"
            causes += [invalid(path, protocol, message) for message in is_qualified_name(protocol)]
    return causes


def _ports_together(spec: dict[str, Any]) -> list[Cause]:
    """Node ports where there are none, and numbers that two ports of one protocol have."""
    ports = spec.get("ports") or []
    causes: list[Cause] = []
    if spec.get("type") == "ClusterIP":
        detail = "may not be used when `type` is 'ClusterIP'"
        causes += [
            forbidden(f"spec.ports[{index}].nodePort", detail)
            for index, port in enumerate(ports)
            if port.get("nodePort")
        ]
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        pair = (port.get("protocol"), port.get("nodePort"))
        if port.get("nodePort") and pair in node_ports:
            causes.append(duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
        node_ports.add(pair)
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        pair = (port.get("protocol"), port.get("port"))
        if pair in seen:
            causes.append(duplicate(f"spec.ports[{index}]", _as_compared(port)))
        seen.add(pair)
    return causes


def _as_compared(port: dict[str, Any]) -> dict[str, Any]:
    """A port as Kubernetes shows it here: what is compared, in the names of its own code."""
    shown = {"Name": "", "Protocol": port.get("protocol"), "AppProtocol": None, "Port": port.get("port")}
    return {**shown, "TargetPort": 0, "NodePort": 0}


def _affinity(spec: dict[str, Any]) -> list[Cause]:
    kind, field = spec.get("sessionAffinity"), "spec.sessionAffinityConfig"
    causes = one_of("spec.sessionAffinity", kind, ("ClientIP", "None"))
    config = spec.get("sessionAffinityConfig")
    if kind == "None" and config is not None:
        causes.append(forbidden(field, "must not be set when session affinity is None"))
    if kind != "ClientIP":
        return causes
    needed = "when session affinity type is ClientIP"
    if config is None:
        return [*causes, required(field, needed)]
    if config.get("clientIP") is None:
        return [*causes, required(f"{field}.clientIP", needed)]
    timeout, field = config["clientIP"].get("timeoutSeconds"), f"{field}.clientIP.timeoutSeconds"
    if timeout is None:
        causes.append(required(field, needed))
    elif not 0 < timeout <= _DAY:
        causes.append(invalid(field, timeout, f"must be greater than 0 and less than {_DAY}"))
    return causes


def cluster_ip_fields(spec: dict[str, Any]) -> list[Cause]:
    """Cluster IPs and families, as far as they can be judged by themselves."""
    if not needs_cluster_ip(spec):
        return []
    first, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    families, field = spec.get("ipFamilies") or [], "spec.clusterIPs"
    causes: list[Cause] = []
    if first and not addresses:
        causes.append(required(field))
    elif first and addresses[0] != first:
        causes.append(invalid(field, addresses, "first value must match `clusterIP`"))
    elif addresses and not first:
        causes.append(invalid(field, addresses, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        causes += _word(f"spec.ipFamilies[{index}]", family, FAMILIES)
        if family in families[:index]:
            causes.append(duplicate(f"spec.ipFamilies[{index}]", family))
    if spec.get("ipFamilyPolicy") is not None:
        causes += _word("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], POLICIES)
    wrong = _addresses(addresses)
    causes += wrong
    if len(addresses) > 2:
        causes.append(invalid(field, addresses, "may only hold up to 2 values"))
    if wrong:
        return causes
    found = [_family(address) for address in addresses]
    if len(addresses) > 1 and (len(addresses) != 2 or found[0] == found[1]):
        causes.append(invalid(field, addresses, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        for index, (address, family) in enumerate(zip(addresses, families, strict=False)):
            if family in FAMILIES and found[index] != family:
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                causes.append(invalid(f"{field}[{index}]", address, detail))
    return causes


def _word(field: str, value: str, supported: tuple[str, ...]) -> list[Cause]:
    """One of a few words; "" is none of them."""
    return [] if value in supported else [not_supported(field, value, supported)]


def _addresses(addresses: list[str]) -> list[Cause]:
    causes: list[Cause] = []
    for index, address in enumerate(addresses):
        if index == 0 and address == HEADLESS:
            if len(addresses) > 1:
                causes.append(
                    invalid("spec.clusterIPs", addresses, "'None' must be the first and only value")
                )
            continue
        causes += ip(f"spec.clusterIPs[{index}]", address)
    return causes


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _load_balancer(spec: dict[str, Any], annotations: dict[str, str]) -> list[Cause]:
    balanced = spec.get("type") == "LoadBalancer"
    causes: list[Cause] = []
    ranges = spec.get("loadBalancerSourceRanges") or ()
    if ranges:
        field = "spec.LoadBalancerSourceRanges"  # Kubernetes' own spelling of this path
        if not balanced:
            causes.append(forbidden(field, _BALANCERS_ONLY))
        for index, text in enumerate(ranges):
            causes += cidr(f"{field}[{index}]", text.strip())
    elif _SOURCE_RANGES in annotations:
        field = f"metadata.annotations[{_SOURCE_RANGES}]"
        if not balanced:
            causes.append(forbidden(field, _BALANCERS_ONLY))
        text = annotations[_SOURCE_RANGES].strip()
        for part in text.split(",") if text else ():
            causes += cidr(field, part.strip())
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balanced:
        causes.append(forbidden("spec.allocateLoadBalancerNodePorts", _BALANCERS_ONLY))
    name, field = spec.get("loadBalancerClass"), "spec.loadBalancerClass"
    if name is not None and not balanced:
        causes.append(forbidden(field, _BALANCERS_ONLY))
    elif name is not None:
        causes += [invalid(field, name, message) for message in is_qualified_name(name)]
    return causes


def _traffic(spec: dict[str, Any]) -> list[Cause]:
    policy, field = spec.get("externalTrafficPolicy") or "", "spec.externalTrafficPolicy"
    causes: list[Cause] = []
    if externally_accessible(spec):
        causes += one_of(field, policy, ("Cluster", "Local"))
    elif policy:
        causes.append(invalid(field, policy, "may only be set for externally-accessible services"))
    port, field = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if not needs_health_check(spec):
        if port:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            causes.append(invalid(field, port, detail))
    elif port:
        causes += port_number(field, port)
    internal = spec.get("internalTrafficPolicy")
    needed = spec.get("type") in WITH_CLUSTER_IP
    causes += one_of("spec.internalTrafficPolicy", internal, ("Cluster", "Local"), needed=needed)
    if spec.get("trafficDistribution") is not None:
        causes += _word("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTIONS)
    return causes


# --- what may change ------------------------------------------------------------------------------------------------


def _service_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """Addresses and families, once given, stay; a second one may come, or go with the policy SingleStack."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    if needs_cluster_ip(after) and needs_cluster_ip(before):
        if not (is_headless(after) and is_headless(before)):
            causes += _addresses_change(after, before)
        if not is_headless(after) and not is_headless(before):
            causes += _families_change(after, before)
    if after.get("type") == before.get("type") == "LoadBalancer":
        now, was = after.get("loadBalancerClass"), before.get("loadBalancerClass")
        if now != was:
            causes.append(invalid("spec.loadBalancerClass", now, _SET_ONCE))
    checked = needs_health_check(before) and needs_health_check(after)
    if checked and after.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
        causes.append(forbidden("spec.healthCheckNodePort", IMMUTABLE))
    return causes


def _addresses_change(after: dict[str, Any], before: dict[str, Any]) -> list[Cause]:
    now, was, field = after.get("clusterIPs") or [], before.get("clusterIPs") or [], "spec.clusterIPs"
    if len(now) == len(was):
        return [
            invalid(f"{field}[{index}]", now, _SET_ONCE)
            for index, address in enumerate(was)
            if address != now[index]
        ]
    causes: list[Cause] = []
    if was and not now:
        causes.append(invalid(f"{field}[0]", None, "primary clusterIP can not be unset"))
    elif was and now[0] != was[0]:
        causes.append(invalid(f"{field}[0]", now, _SET_ONCE))
    policy = after.get("ipFamilyPolicy")
    if len(was) > len(now) == 1 and policy != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        causes.append(invalid("spec.ipFamilyPolicy", policy, detail))
    return causes


def _families_change(after: dict[str, Any], before: dict[str, Any]) -> list[Cause]:
    now, was, field = after.get("ipFamilies") or [], before.get("ipFamilies") or [], "spec.ipFamilies[0]"
    if len(now) == len(was):
        return [invalid(field, now, _SET_ONCE) for one, other in zip(was, now, strict=True) if one != other]
    causes: list[Cause] = []
    if len(was) > len(now) and not after.get("clusterIPs"):
        causes.append(invalid(field, now, "primary ipFamily can not be unset"))
    if was and now and now[0] != was[0]:
        causes.append(invalid(field, after.get("clusterIPs"), _SET_ONCE))
    policy = after.get("ipFamilyPolicy")
    if len(was) > len(now) == 1 and policy != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        causes.append(invalid("spec.ipFamilyPolicy", policy, detail))
    return causes


def _service_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    points = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if points and (new.get("spec") or {}).get("type") != "LoadBalancer":
        detail = "may only be used when `spec.type` is 'LoadBalancer'"
        return [forbidden("status.loadBalancer.ingress", detail)]
    causes = load_balancer_status(new, old)
    for index, each in enumerate(points):
        field, mode = f"status.loadBalancer.ingress[{index}].ipMode", each.get("ipMode")
        if each.get("ip") and mode is None:
            causes.append(required(field, "must be specified when `ip` is set"))
        elif mode is not None and not each.get("ip"):
            causes.append(forbidden(field, "may not be specified when `ip` is not set"))
        elif mode is not None:
            causes += _word(field, mode, ("Proxy", "VIP"))
    return causes


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {("", "services"): _service}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "services"): _service_change
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "services"): _service_status
}
