"""Rules of services, endpoints and endpoint slices."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_label, is_dns1123_subdomain, is_qualified_name
from bamikube.api.validation.containers import PROTOCOLS, port_ref
from bamikube.api.validation.rules import (
    cidr,
    duplicate,
    forbidden,
    invalid,
    ip,
    labels,
    named,
    one_of,
    port_number,
    required,
    too_many,
)

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_DAY = 86400  # seconds


def _service_port(
    path: str, port: dict[str, Any], *, name_needed: bool, headless: bool, names: set[str]
) -> list[Cause]:
    causes: list[Cause] = []
    name = port.get("name")
    if not name:
        if name_needed:
            causes.append(required(f"{path}.name"))
    else:
        causes += [invalid(f"{path}.name", name, message) for message in is_dns1123_label(name)]
        if name in names:
            causes.append(duplicate(f"{path}.name", name))
        names.add(name)
    causes += port_number(f"{path}.port", port.get("port", 0))
    causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    if not headless or isinstance(port.get("targetPort"), str):
        causes += port_ref(f"{path}.targetPort", port.get("targetPort"))
    if port.get("appProtocol"):
        causes += [
            invalid(f"{path}.appProtocol", port["appProtocol"], m)
            for m in is_qualified_name(port["appProtocol"])
        ]
    return causes


def _service_ports(spec: dict[str, Any], kind: str, headless: bool) -> list[Cause]:
    ports = spec.get("ports") or []
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        causes += _service_port(path, port, name_needed=len(ports) > 1, headless=headless, names=names)
        if port.get("nodePort") and kind in ("ClusterIP", "ExternalName"):
            detail = f"may not be used when `type` is '{kind}'"
            causes.append(forbidden(f"{path}.nodePort", detail))
    seen: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        pair = (port.get("protocol"), port.get("port"))
        if pair in seen:
            causes.append(
                duplicate(
                    f"spec.ports[{index}]", {"port": port.get("port"), "protocol": port.get("protocol")}
                )
            )
        seen.add(pair)
        if port.get("nodePort"):
            pair = (port.get("protocol"), port["nodePort"])
            if pair in node_ports:
                causes.append(duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
            node_ports.add(pair)
    return causes


def _cluster_ips(spec: dict[str, Any], kind: str) -> list[Cause]:
    address, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    causes: list[Cause] = []
    if kind == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(name):
                causes.append(forbidden(f"spec.{name}", "may not be set when `type` is 'ExternalName'"))
        return causes
    if addresses and not address:
        causes.append(forbidden("spec.clusterIPs", "must be empty when `clusterIP` is not specified"))
    elif addresses and addresses[0] != address:
        causes.append(invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    if len(addresses) > 2:
        causes.append(too_many("spec.clusterIPs", len(addresses), 2))
    for index, each in enumerate(addresses or ([address] if address else [])):
        path = f"spec.clusterIPs[{index}]"
        if each == "None":
            if len(addresses) > 1:
                causes.append(invalid(path, each, "headless services must have only one value"))
        elif each:
            causes += ip(path, each)
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        causes += one_of(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))
    if len(families) == 2 and families[0] == families[1]:
        causes.append(duplicate("spec.ipFamilies[1]", families[1]))
    policies = ("SingleStack", "PreferDualStack", "RequireDualStack")
    return causes + one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), policies, needed=False)


def _service(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    kind = spec.get("type") or ""
    headless = spec.get("clusterIP") == "None"
    causes: list[Cause] = []
    if not spec.get("ports") and not headless and kind != "ExternalName":
        causes.append(required("spec.ports"))
    if kind == "LoadBalancer" and headless:
        causes.append(
            invalid(
                "spec.clusterIPs",
                spec.get("clusterIPs"),
                "may not be set to 'None' for LoadBalancer services",
            )
        )
    if kind == "NodePort" and headless:
        causes.append(
            invalid(
                "spec.clusterIPs", spec.get("clusterIPs"), "may not be set to 'None' for NodePort services"
            )
        )
    if kind == "ExternalName":
        target = (spec.get("externalName") or "").removesuffix(".")
        if target:
            causes += [
                invalid("spec.externalName", target, message) for message in is_dns1123_subdomain(target)
            ]
        else:
            causes.append(required("spec.externalName"))
    causes += _service_ports(spec, kind, headless)
    causes += labels("spec.selector", spec.get("selector"))
    causes += one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if spec.get("sessionAffinity") == "ClientIP" and timeout is not None and not 0 < timeout <= _DAY:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        causes.append(invalid(field, timeout, f"must be greater than 0 and less than {_DAY}"))
    causes += _cluster_ips(spec, kind)
    causes += one_of("spec.type", kind, TYPES)
    for index, each in enumerate(spec.get("externalIPs") or ()):
        causes += endpoint_address(f"spec.externalIPs[{index}]", each)
    policy = spec.get("externalTrafficPolicy")
    if policy:
        if kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
            detail = "may only be set for externally-accessible services"
            causes.append(invalid("spec.externalTrafficPolicy", policy, detail))
        else:
            causes += one_of("spec.externalTrafficPolicy", policy, ("Cluster", "Local"))
    causes += one_of(
        "spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), ("Cluster", "Local"), needed=False
    )
    causes += _outside(spec, kind)
    if spec.get("loadBalancerClass") and kind != "LoadBalancer":
        causes.append(forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"))
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        detail = "may only be used when `type` is 'LoadBalancer'"
        causes.append(forbidden("spec.allocateLoadBalancerNodePorts", detail))
    return causes


_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")


def _outside(spec: dict[str, Any], kind: str) -> list[Cause]:
    """Who may come in through a load balancer, how its health is asked for, and whom traffic prefers."""
    causes: list[Cause] = []
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        causes += cidr(f"spec.loadBalancerSourceRanges[{index}]", text.strip())
    if spec.get("loadBalancerSourceRanges") and kind != "LoadBalancer":
        detail = "may only be used when `type` is 'LoadBalancer'"
        causes.append(forbidden("spec.loadBalancerSourceRanges", detail))
    port = spec.get("healthCheckNodePort")
    if port and not (kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(invalid("spec.healthCheckNodePort", port, detail))
    if spec.get("loadBalancerClass"):
        name = spec["loadBalancerClass"]
        causes += [invalid("spec.loadBalancerClass", name, message) for message in is_qualified_name(name)]
    if spec.get("trafficDistribution") is not None:
        causes += one_of("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTIONS)
    return causes


def _service_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """A cluster IP, once given, stays, unless the service stops having one."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    if after.get("type") == before.get("type") == "LoadBalancer":
        now, was = after.get("loadBalancerClass"), before.get("loadBalancerClass")
        if now != was:
            causes.append(invalid("spec.loadBalancerClass", now, "may not change once set"))
    if after.get("type") == "ExternalName" or before.get("type") == "ExternalName":
        return causes
    was, now = before.get("clusterIPs") or [before.get("clusterIP") or ""], after.get("clusterIPs") or []
    if was and was[0] and (not now or now[0] != was[0]):
        causes.append(invalid("spec.clusterIPs[0]", now, "may not change once set"))
    families, previous = after.get("ipFamilies") or [], before.get("ipFamilies") or []
    if families and previous and families[0] != previous[0]:
        causes.append(invalid("spec.ipFamilies[0]", families, "may not change once set"))
    return causes


def endpoint_address(field: str, text: str) -> list[Cause]:
    """An address traffic may be sent to: not loopback, link-local, multicast or unspecified."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if address.is_unspecified:
        return [invalid(field, text, f"may not be unspecified ({text})")]
    if address.is_loopback:
        return [invalid(field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [invalid(field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if address.is_multicast:
        return [
            invalid(field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        ]
    return []


def _endpoint_ports(field: str, ports: list[dict[str, Any]], name_needed: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(ports):
        path = f"{field}[{index}]"
        causes += named(f"{path}.name", port.get("name"), is_dns1123_label, needed=name_needed)
        causes += port_number(f"{path}.port", port.get("port", 0))
        causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    return causes


def _endpoints(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for kind in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(kind) or ()):
                where = f"{path}.{kind}[{place}]"
                causes += endpoint_address(f"{where}.ip", address.get("ip") or "")
                causes += named(f"{where}.hostname", address.get("hostname"), is_dns1123_label, needed=False)
        ports = subset.get("ports") or []
        causes += _endpoint_ports(f"{path}.ports", ports, len(ports) > 1)
    return causes


_SLICE_ENDPOINTS, _SLICE_PORTS, _SLICE_ADDRESSES = 1000, 100, 100


def _endpoint_slice(obj: dict[str, Any]) -> list[Cause]:
    kind = obj.get("addressType") or ""
    causes = one_of("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
    if len(endpoints) > _SLICE_ENDPOINTS:
        causes.append(too_many("endpoints", len(endpoints), _SLICE_ENDPOINTS))
    for index, endpoint in enumerate(endpoints[:_SLICE_ENDPOINTS]):
        path = f"endpoints[{index}]"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            causes.append(required(f"{path}.addresses", "must contain at least 1 address"))
        elif len(addresses) > _SLICE_ADDRESSES:
            causes.append(too_many(f"{path}.addresses", len(addresses), _SLICE_ADDRESSES))
        for place, address in enumerate(addresses):
            where = f"{path}.addresses[{place}]"
            if kind == "FQDN":
                causes += [invalid(where, address, message) for message in is_dns1123_subdomain(address)]
            else:
                wrong = endpoint_address(where, address)
                if not wrong and (":" in address) != (kind == "IPv6"):
                    wrong = [invalid(where, address, f"must be an {kind} address")]
                causes += wrong
        causes += named(f"{path}.hostname", endpoint.get("hostname"), is_dns1123_label, needed=False)
        causes += named(f"{path}.nodeName", endpoint.get("nodeName"), is_dns1123_subdomain, needed=False)
    if len(ports) > _SLICE_PORTS:
        causes.append(too_many("ports", len(ports), _SLICE_PORTS))
    names: set[str] = set()
    for index, port in enumerate(ports[:_SLICE_PORTS]):
        name = port.get("name") or ""
        causes += named(f"ports[{index}].name", name, is_dns1123_label, needed=False)
        if name in names:
            causes.append(duplicate(f"ports[{index}].name", name))
        names.add(name)
        causes += one_of(f"ports[{index}].protocol", port.get("protocol"), PROTOCOLS)
        if port.get("port") is not None:
            causes += port_number(f"ports[{index}].port", port["port"])
    return causes


def _endpoint_slice_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    if new.get("addressType") != old.get("addressType"):
        return [invalid("addressType", new.get("addressType"), "field is immutable")]
    return []


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "services"): _service,
    ("", "endpoints"): _endpoints,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "services"): _service_change,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice_change,
}
