"""Rules of services, endpoints, endpoint slices, ingresses and network policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import (
    is_dns1123_label,
    is_dns1123_subdomain,
    is_qualified_name,
    is_wildcard_dns1123_subdomain,
)
from bamikube.api.validation.containers import PROTOCOLS, port_ref
from bamikube.api.validation.pod import ip
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    label_selector,
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
        causes += ip(f"spec.externalIPs[{index}]", each)
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
    if spec.get("loadBalancerClass") and kind != "LoadBalancer":
        causes.append(forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"))
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        detail = "may only be used when `type` is 'LoadBalancer'"
        causes.append(forbidden("spec.allocateLoadBalancerNodePorts", detail))
    return causes


def _service_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """A cluster IP, once given, stays, unless the service stops having one."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if after.get("type") == "ExternalName" or before.get("type") == "ExternalName":
        return []
    causes: list[Cause] = []
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


def _ingress_backend(field: str, backend: dict[str, Any]) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is None:
        return [required(field, "resource or service backend is required")]
    if service is not None and resource is not None:
        return [invalid(field, "", "cannot set both resource and service backends")]
    if service is None:
        return []
    causes = named(f"{field}.service.name", service.get("name"), is_dns1123_label)
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        causes.append(invalid(f"{field}.service.port", port, "cannot set both port name & port number"))
    elif port.get("name"):
        causes += port_ref(f"{field}.service.port.name", port["name"])
    elif port.get("number"):
        causes += port_number(f"{field}.service.port.number", port["number"])
    else:
        causes.append(required(f"{field}.service.port", "port name or number is required"))
    return causes


def _ingress(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        causes.append(invalid("spec", [], "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend") is not None:
        causes += _ingress_backend("spec.defaultBackend", spec["defaultBackend"])
    for index, rule in enumerate(spec.get("rules") or ()):
        path = f"spec.rules[{index}]"
        host = rule.get("host") or ""
        if host:
            predicate = is_wildcard_dns1123_subdomain if host.startswith("*") else is_dns1123_subdomain
            causes += [invalid(f"{path}.host", host, message) for message in predicate(host)]
        http = rule.get("http")
        if http is None:
            continue
        if not http.get("paths"):
            causes.append(required(f"{path}.http.paths"))
        for place, each in enumerate(http.get("paths") or ()):
            where = f"{path}.http.paths[{place}]"
            kind = each.get("pathType")
            if kind is None:
                causes.append(required(f"{where}.pathType", "pathType must be specified"))
            else:
                supported = ("Exact", "ImplementationSpecific", "Prefix")
                causes += one_of(f"{where}.pathType", kind, supported)
                if kind in ("Exact", "Prefix") and not (each.get("path") or "").startswith("/"):
                    causes.append(
                        invalid(f"{where}.path", each.get("path") or "", "must be an absolute path")
                    )
            causes += _ingress_backend(f"{where}.backend", each.get("backend") or {})
    return causes


def _policy_ports(field: str, ports: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(ports):
        path = f"{field}[{index}]"
        causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        if port.get("port") is not None:
            causes += port_ref(f"{path}.port", port["port"])
        end = port.get("endPort")
        if end is not None:
            if isinstance(port.get("port"), str):
                causes.append(
                    invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
                )
            elif port.get("port") is None:
                causes.append(
                    invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified")
                )
            elif end < port["port"]:
                causes.append(invalid(f"{path}.endPort", end, "must be greater than or equal to `port`"))
    return causes


def _peer(path: str, peer: dict[str, Any]) -> list[Cause]:
    given = [kind for kind in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(kind) is not None]
    if not given:
        return [required(path, "must specify a peer")]
    causes: list[Cause] = []
    if "ipBlock" in given:
        if len(given) > 1:
            return [forbidden(path, "may not specify both ipBlock and another peer")]
        cidr = peer["ipBlock"].get("cidr") or ""
        if not cidr:
            return [required(f"{path}.ipBlock.cidr")]
        try:
            network = ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            return [
                invalid(
                    f"{path}.ipBlock.cidr",
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                )
            ]
        for index, text in enumerate(peer["ipBlock"].get("except") or ()):
            where = f"{path}.ipBlock.except[{index}]"
            try:
                inner = ipaddress.ip_network(text, strict=False)
            except ValueError:
                causes.append(
                    invalid(where, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
                )
                continue
            if (
                inner.version != network.version
                or inner.prefixlen <= network.prefixlen
                or not inner.overlaps(network)
            ):
                causes.append(invalid(where, text, "must be a strict subset of `cidr`"))
        return causes
    for kind in given:
        causes += label_selector(f"{path}.{kind}", peer[kind])
    return causes


def _network_policy(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = label_selector("spec.podSelector", spec.get("podSelector"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            causes += _policy_ports(f"{path}.ports", rule.get("ports") or [])
            for place, peer in enumerate(rule.get(peers) or ()):
                causes += _peer(f"{path}.{peers}[{place}]", peer)
    for index, kind in enumerate(spec.get("policyTypes") or ()):
        causes += one_of(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))
    return causes


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "services"): _service,
    ("", "endpoints"): _endpoints,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
    ("networking.k8s.io", "ingresses"): _ingress,
    ("networking.k8s.io", "networkpolicies"): _network_policy,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "services"): _service_change,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice_change,
}
