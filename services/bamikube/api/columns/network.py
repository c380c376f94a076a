"""Rows of services, endpoints, ingresses and network policies."""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import (
    AGE,
    NAME,
    NONE,
    SELECTOR,
    UNSET,
    Printer,
    column,
    label_text,
    name,
    selector_text,
)


def _load_balancer(obj: dict[str, Any]) -> list[str]:
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    points = {each.get("ip") or each.get("hostname") or "" for each in ingress}
    return sorted(points - {""})


def _external_ip(obj: dict[str, Any]) -> str:
    spec = obj.get("spec") or {}
    kind, given = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    if kind == "LoadBalancer":
        return ",".join([*_load_balancer(obj), *given]) or "<pending>"
    return ",".join(given) or NONE


def service_ports(ports: list[dict[str, Any]]) -> str:
    """``80:30080/TCP,443/TCP``."""
    shown = []
    for port in ports:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or NONE


def _service(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    address = (spec.get("clusterIPs") or [spec.get("clusterIP")])[0] or NONE
    return [
        name(obj),
        spec.get("type") or "ClusterIP",
        address,
        _external_ip(obj),
        service_ports(spec.get("ports") or []),
        age.of(obj, now),
        label_text(spec.get("selector")),
    ]


_SHOWN = 3  # endpoints in a cell


def _endpoints(obj: dict[str, Any], now: float) -> list[Any]:
    shown: list[str] = []
    for subset in obj.get("subsets") or ():
        ready, ports = subset.get("addresses") or [], subset.get("ports") or []
        if not ports:
            shown += [each.get("ip", "") for each in ready]
        for port in ports:
            for each in ready:
                host = f"[{each['ip']}]" if ":" in each.get("ip", "") else each.get("ip", "")
                shown.append(f"{host}:{port.get('port')}")
    text = ",".join(shown[:_SHOWN]) or NONE
    if len(shown) > _SHOWN:
        text += f" + {len(shown) - _SHOWN} more..."
    return [name(obj), text, age.of(obj, now)]


def _limited(values: list[str], empty: str) -> str:
    text = ",".join(values[:_SHOWN]) or empty
    return f"{text} + {len(values) - _SHOWN} more..." if len(values) > _SHOWN else text


def _endpoint_slice(obj: dict[str, Any], now: float) -> list[Any]:
    ports = []
    for port in obj.get("ports") or ():
        # "*" stands for all ports of a protocol; the protocol itself is not shown.
        ports.append(str(port["port"]) if port.get("port") is not None else "*")
    addresses = [ip for endpoint in obj.get("endpoints") or () for ip in endpoint.get("addresses") or ()]
    return [
        name(obj),
        obj.get("addressType", ""),
        _limited(ports, UNSET),
        _limited(addresses, UNSET),
        age.of(obj, now),
    ]


def _ingress(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    text = ",".join(hosts[:_SHOWN]) or "*"
    if len(hosts) > _SHOWN:
        text += f" + {len(hosts) - _SHOWN} more..."
    return [
        name(obj),
        spec.get("ingressClassName") or NONE,
        text,
        ",".join(_load_balancer(obj)),
        "80, 443" if spec.get("tls") else "80",
        age.of(obj, now),
    ]


def _ingress_class(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    ref = spec.get("parameters")
    parameters = NONE
    if ref:
        group = f".{ref['apiGroup']}" if ref.get("apiGroup") else ""
        parameters = f"{ref.get('kind', '')}{group}/{ref.get('name', '')}"
    return [name(obj), spec.get("controller", ""), parameters, age.of(obj, now)]


def _network_policy(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), selector_text((obj.get("spec") or {}).get("podSelector") or {}), age.of(obj, now)]


def _ip_address(obj: dict[str, Any], now: float) -> list[Any]:
    ref = (obj.get("spec") or {}).get("parentRef")
    parts = [ref.get(key) for key in ("resource", "group", "namespace", "name")] if ref else []
    if not ref:
        return [name(obj), NONE]
    resource, group, namespace, owner = parts
    text = (f"{resource}.{group}" if group else f"{resource}").lower()
    return [name(obj), f"{text}/{namespace}/{owner}" if namespace else f"{text}/{owner}"]


def _service_cidr(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), ",".join((obj.get("spec") or {}).get("cidrs") or ()), age.of(obj, now)]


PRINTERS = {
    ("", "services"): Printer(
        (
            NAME,
            column("Type", about="How the service is exposed."),
            column("Cluster-IP", about="Its address inside the cluster."),
            column("External-IP", about="Its addresses outside the cluster."),
            column("Port(s)", about="Its ports, and node ports."),
            AGE,
            SELECTOR,
        ),
        _service,
    ),
    ("", "endpoints"): Printer((NAME, column("Endpoints", about="Addresses that serve."), AGE), _endpoints),
    ("discovery.k8s.io", "endpointslices"): Printer(
        (
            NAME,
            column("AddressType", about="What its addresses are."),
            column("Ports", about="Ports of every endpoint."),
            column("Endpoints", about="Addresses, ready or not."),
            AGE,
        ),
        _endpoint_slice,
    ),
    ("networking.k8s.io", "ingresses"): Printer(
        (
            NAME,
            column("Class", about="Which controller serves it."),
            column("Hosts", about="Hosts it answers for."),
            column("Address", about="Where it is reached."),
            column("Ports", about="Ports it is reached at."),
            AGE,
        ),
        _ingress,
    ),
    ("networking.k8s.io", "ingressclasses"): Printer(
        (
            NAME,
            column("Controller", about="Which controller serves the class."),
            column("Parameters", about="Where its settings are."),
            AGE,
        ),
        _ingress_class,
    ),
    ("networking.k8s.io", "networkpolicies"): Printer(
        (NAME, column("Pod-Selector", about="Which pods it holds for."), AGE), _network_policy
    ),
    ("networking.k8s.io", "ipaddresses"): Printer(
        (NAME, column("ParentRef", about="Who holds the address.")), _ip_address
    ),
    ("networking.k8s.io", "servicecidrs"): Printer(
        (NAME, column("CIDRs", about="Ranges of addresses."), AGE), _service_cidr
    ),
}
