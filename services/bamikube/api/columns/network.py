"""Rows of services, endpoints, ingresses and network policies."""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import (
    AGE,
    NAME,
    NONE,
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
    return ",".join(given) or NONE if kind in ("ClusterIP", "NodePort") else "<unknown>"


def service_ports(ports: list[dict[str, Any]]) -> str:
    """``80:30080/TCP,443/TCP``."""
    shown = []
    for port in ports:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or NONE


def _service(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    address = (spec.get("clusterIPs") or [NONE])[0]
    return [
        name(obj),
        spec.get("type") or "",
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
    # Endpoints of which none is ready show nothing; only those without any are none.
    text = _limited(shown, "") if obj.get("subsets") else NONE
    return [name(obj), text, age.of(obj, now)]


def _limited(values: list[str], empty: str) -> str:
    text = ",".join(values[:_SHOWN]) or empty
    return f"{text} + {len(values) - _SHOWN} more..." if len(values) > _SHOWN else text


def _endpoint_slice(obj: dict[str, Any], now: float) -> list[Any]:
    ports = []
    for port in obj.get("ports") or ():
        number, called = port.get("port"), port.get("name")
        ports.append(str(number) if number is not None else "*" if called is None else called)
    addresses = [ip for endpoint in obj.get("endpoints") or () for ip in endpoint.get("addresses") or ()]
    return [
        name(obj),
        obj.get("addressType", ""),
        _limited(ports, UNSET),
        _limited(addresses, UNSET),
        age.of(obj, now),
    ]


def _hosts(rules: list[dict[str, Any]]) -> str:
    """The first three hosts; what is left out is counted in rules, whether they name a host or not."""
    shown: list[str] = []
    more = False
    for rule in rules:
        more = more or len(shown) == _SHOWN
        if not more and rule.get("host"):
            shown.append(rule["host"])
    if not shown:
        return "*"
    return ",".join(shown) + (f" + {len(rules) - _SHOWN} more..." if more else "")


def _ingress(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    given = spec.get("ingressClassName")
    return [
        name(obj),
        NONE if given is None else given,
        _hosts(spec.get("rules") or []),
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
            column("Type", about="=core.v1.ServiceSpec.type"),
            column("Cluster-IP", about="=core.v1.ServiceSpec.clusterIP"),
            column("External-IP", about="=core.v1.ServiceSpec.externalIPs"),
            column("Port(s)", about="=core.v1.ServiceSpec.ports"),
            AGE,
            column("Selector", wide=True, about="=core.v1.ServiceSpec.selector"),
        ),
        _service,
    ),
    ("", "endpoints"): Printer(
        (NAME, column("Endpoints", about="=core.v1.Endpoints.subsets"), AGE), _endpoints
    ),
    ("discovery.k8s.io", "endpointslices"): Printer(
        (
            NAME,
            column("AddressType", about="=discovery.v1.EndpointSlice.addressType"),
            column("Ports", about="=discovery.v1.EndpointSlice.ports"),
            column("Endpoints", about="=discovery.v1.EndpointSlice.endpoints"),
            AGE,
        ),
        _endpoint_slice,
    ),
    ("networking.k8s.io", "ingresses"): Printer(
        (
            NAME,
            column(
                "Class",
                about="The name of the IngressClass resource that should be used for additional configuration",
            ),
            column("Hosts", about="Hosts that incoming requests are matched against before the ingress rule"),
            column("Address", about="Address is a list containing ingress points for the load-balancer"),
            column("Ports", about="Ports of TLS configurations that open"),
            AGE,
        ),
        _ingress,
    ),
    ("networking.k8s.io", "ingressclasses"): Printer(
        (
            NAME,
            column("Controller", about="Controller that is responsible for handling this class"),
            column("Parameters", about="A reference to a resource with additional parameters"),
            AGE,
        ),
        _ingress_class,
    ),
    ("networking.k8s.io", "networkpolicies"): Printer(
        (NAME, column("Pod-Selector", about="=networking.v1.NetworkPolicySpec.podSelector"), AGE),
        _network_policy,
    ),
    ("networking.k8s.io", "ipaddresses"): Printer(
        (NAME, column("ParentRef", about="=networking.v1.IPAddressSpec.parentRef")), _ip_address
    ),
    ("networking.k8s.io", "servicecidrs"): Printer(
        (NAME, column("CIDRs", about="=networking.v1.ServiceCIDRSpec.cidrs"), AGE), _service_cidr
    ),
}
