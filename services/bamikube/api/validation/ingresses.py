"""Rules of ingresses and their classes. Source: the API reference (networking.k8s.io/v1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import (
    is_dns1035_label,
    is_dns1123_subdomain,
    is_path_segment,
    is_wildcard_dns1123_subdomain,
)
from bamikube.api.validation.containers import PROTOCOLS, port_ref
from bamikube.api.validation.rules import (
    domain_prefixed_path,
    forbidden,
    immutable,
    invalid,
    ip,
    named,
    one_of,
    port_number,
    required,
    too_long,
)

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
LONGEST_CONTROLLER = 250
_NOT_INSIDE = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_THE_END = ("/..", "/.")


def _object_ref(field: str, ref: dict[str, Any]) -> list[Cause]:
    """A reference to an object of the same namespace (a resource backend)."""
    causes = named(f"{field}.apiGroup", ref.get("apiGroup"), is_dns1123_subdomain, needed=False)
    for name in ("kind", "name"):
        causes += named(f"{field}.{name}", ref.get(name), is_path_segment)
    return causes


def _backend(field: str, backend: dict[str, Any]) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is None:
        return [required(field, "resource or service backend is required")]
    if service is not None and resource is not None:
        return [invalid(field, "", "cannot set both resource and service backends")]
    if service is None:
        return _object_ref(f"{field}.resource", resource or {})
    causes = named(f"{field}.service.name", service.get("name"), is_dns1035_label)
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


def _host(field: str, host: str) -> list[Cause]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        predicate = is_wildcard_dns1123_subdomain if "*" in host else is_dns1123_subdomain
        return [invalid(field, host, message) for message in predicate(host)]
    return [invalid(field, host, "must be a DNS name, not an IP address")]


def _path(where: str, each: dict[str, Any]) -> list[Cause]:
    kind, path = each.get("pathType"), each.get("path") or ""
    if kind is None:
        return [required(f"{where}.pathType", "pathType must be specified")]
    causes = one_of(f"{where}.pathType", kind, ("Exact", "ImplementationSpecific", "Prefix"))
    if kind in ("Exact", "Prefix"):
        if not path.startswith("/"):
            causes.append(invalid(f"{where}.path", path, "must be an absolute path"))
        if path:
            causes += [
                invalid(f"{where}.path", path, f"must not contain '{part}'")
                for part in _NOT_INSIDE
                if part in path
            ]
            causes += [
                invalid(f"{where}.path", path, f"cannot end with '{part}'")
                for part in _NOT_AT_THE_END
                if path.endswith(part)
            ]
    elif kind == "ImplementationSpecific" and path and not path.startswith("/"):
        causes.append(invalid(f"{where}.path", path, "must be an absolute path"))
    return causes


def _rules(rules: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(rules):
        path = f"spec.rules[{index}]"
        if rule.get("host"):
            causes += _host(f"{path}.host", rule["host"])
        http = rule.get("http")
        if http is None:
            continue
        if not http.get("paths"):
            causes.append(required(f"{path}.http.paths"))
        for place, each in enumerate(http.get("paths") or ()):
            where = f"{path}.http.paths[{place}]"
            causes += _path(where, each) + _backend(f"{where}.backend", each.get("backend") or {})
    return causes


def _ingress(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        causes.append(invalid("spec", [], "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend") is not None:
        causes += _backend("spec.defaultBackend", spec["defaultBackend"])
    causes += _rules(spec.get("rules") or [])
    for index, tls in enumerate(spec.get("tls") or ()):
        for place, host in enumerate(tls.get("hosts") or ()):
            predicate = is_wildcard_dns1123_subdomain if "*" in host else is_dns1123_subdomain
            field = f"spec.tls[{index}].hosts[{place}]"
            causes += [invalid(field, host, message) for message in predicate(host)]
        field = f"spec.tls[{index}].secretName"
        causes += named(field, tls.get("secretName"), is_dns1123_subdomain, needed=False)
    return causes + named(
        "spec.ingressClassName", spec.get("ingressClassName"), is_dns1123_subdomain, needed=False
    )


def _new_ingress(obj: dict[str, Any]) -> list[Cause]:
    given = ((obj.get("metadata") or {}).get("annotations") or {}).get(CLASS_ANNOTATION)
    if given is not None and (obj.get("spec") or {}).get("ingressClassName") is not None:
        detail = "can not be set when the class field is also set"
        return [invalid(f"annotations[{CLASS_ANNOTATION}]", given, detail)]
    return []


def _ingress_class(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    controller = spec.get("controller") or ""
    causes = domain_prefixed_path("spec.controller", controller)
    if len(controller) > LONGEST_CONTROLLER:
        causes.insert(0, too_long("spec.controller", LONGEST_CONTROLLER))
    parameters, field = spec.get("parameters"), "spec.parameters"
    if parameters is None:
        return causes
    causes += _object_ref(field, parameters)
    scope = parameters.get("scope")
    causes += one_of(f"{field}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace":
        if not parameters.get("namespace"):
            causes.append(required(f"{field}.namespace", "`parameters.scope` is set to 'Namespace'"))
    elif scope == "Cluster" and parameters.get("namespace") is not None:
        causes.append(forbidden(f"{field}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return causes


def _ingress_class_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    return immutable("spec.controller", after.get("controller"), before.get("controller"))


def load_balancer_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """What a load balancer reported: addresses that are addresses, names that are names (services and ingresses)."""
    causes: list[Cause] = []
    for index, each in enumerate(((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()):
        field = f"status.loadBalancer.ingress[{index}]"
        if each.get("ip"):
            causes += ip(f"{field}.ip", each["ip"])
        if each.get("hostname"):
            name = each["hostname"]
            causes += [invalid(f"{field}.hostname", name, message) for message in is_dns1123_subdomain(name)]
            if not ip("", name):
                causes.append(invalid(f"{field}.hostname", name, "must be a DNS name, not an IP address"))
        for place, port in enumerate(each.get("ports") or ()):
            causes += port_number(f"{field}.ports[{place}].port", port.get("port", 0))
            causes += one_of(f"{field}.ports[{place}].protocol", port.get("protocol"), PROTOCOLS)
    return causes


_GROUP = "networking.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "ingresses"): _ingress,
    (_GROUP, "ingressclasses"): _ingress_class,
}
ONLY_NEW: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "ingresses"): _new_ingress,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "ingressclasses"): _ingress_class_change,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "ingresses"): load_balancer_status,
}
