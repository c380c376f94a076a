"""A container's environment: values, references, service variables and ``$(NAME)``.

Pure apart from the objects handed in. Sources: the API reference of EnvVar and EnvFromSource, and "Discovering
services" for the variables. Order matters: service variables first, then envFrom, then env, later ones win, and
``$(NAME)`` sees what stands before it. ``$$`` is a dollar; a reference to nothing stays as it is written.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_DEFAULTED = ("cpu", "memory", "ephemeral-storage")  # limits that are the node's where a container has none
_ESCAPES = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", '"': '"', "\\": "\\"}


class ConfigError(Exception):
    """The container cannot be configured: its own spec, or an object it names, is at fault."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Objects a container refers to, by (kind, name); None where the object does not exist."""

    objects: Mapping[tuple[str, str], JSON | None]
    services: list[JSON]
    node_ips: tuple[str, ...]
    pod_ips: tuple[str, ...]
    node_name: str
    allocatable: Mapping[str, str]


def references(spec: JSON) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets whose contents the environment of a container needs."""
    found: set[tuple[str, str]] = set()
    for item in spec.get("envFrom") or ():
        if "configMapRef" in item:
            found.add(("ConfigMap", item["configMapRef"]["name"]))
        if "secretRef" in item:
            found.add(("Secret", item["secretRef"]["name"]))
    for item in spec.get("env") or ():
        source = item.get("valueFrom") or {}
        if "configMapKeyRef" in source:
            found.add(("ConfigMap", source["configMapKeyRef"]["name"]))
        if "secretKeyRef" in source:
            found.add(("Secret", source["secretKeyRef"]["name"]))
    return found


def environment(pod: JSON, spec: JSON, sources: Sources) -> dict[str, str]:
    """Names and values in order. Raises :class:`ConfigError` naming what is missing."""
    result: dict[str, str] = {}
    for item in spec.get("envFrom") or ():
        prefix = item.get("prefix", "")
        for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if field in item:
                result.update(_whole(pod, kind, item[field], prefix, sources))
    variables = service_variables(pod, sources.services)
    own: dict[str, str] = {}
    for item in spec.get("env") or ():
        name = item["name"]
        if item.get("valueFrom"):
            value = _from(pod, spec, item["valueFrom"], sources)
            if value is None:
                continue
        else:
            value = expand(
                item.get("value") or "", lambda key: own.get(key, result.get(key, variables.get(key)))
            )
        own[name] = value
    return variables | result | own


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """Replace ``$(NAME)``; ``$$(NAME)`` becomes ``$(NAME)``."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        value = lookup(match.group(2))
        return match.group(0) if value is None else value

    return _REFERENCE.sub(replace, text)


def expand_whole(text: str, environment: Mapping[str, str]) -> str:
    """The same where nothing may be left open. Raises ConfigError naming the variables without a value."""
    missing: set[str] = set()

    def lookup(name: str) -> str:
        value = environment.get(name) or ""
        if not value:
            missing.add(name)
        return value

    result = expand(text, lookup)
    if missing:
        raise ConfigError(f"missing value for {', '.join(sorted(missing))}")
    return result


def decode(obj: JSON, key: str) -> str | None:
    """One value of a ConfigMap or Secret as text."""
    if obj.get("kind") == "Secret" or "stringData" in obj or (obj.get("type") and "binaryData" not in obj):
        value = (obj.get("data") or {}).get(key)
        return None if value is None else base64.b64decode(value).decode("utf-8", "replace")
    value = (obj.get("data") or {}).get(key)
    return None if value is None else str(value)


def _object(pod: JSON, kind: str, ref: JSON, sources: Sources) -> JSON | None:
    obj = sources.objects.get((kind, ref["name"]))
    if obj is None and not ref.get("optional"):
        raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
    return None if obj is None else {"kind": kind} | obj


def _whole(pod: JSON, kind: str, ref: JSON, prefix: str, sources: Sources) -> dict[str, str]:
    obj = _object(pod, kind, ref, sources)
    if obj is None:
        return {}
    result: dict[str, str] = {}
    for key in sorted(obj.get("data") or {}):
        value = decode(obj, key)
        if value is not None:
            result[prefix + key] = value
    return result


def _from(pod: JSON, spec: JSON, source: JSON, sources: Sources) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"], sources)
    if "resourceFieldRef" in source:
        return resource(pod, spec, source["resourceFieldRef"], sources.allocatable)
    for kind, name in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if name not in source:
            continue
        ref = source[name]
        obj = _object(pod, kind, ref, sources)
        value = decode(obj, ref["key"]) if obj is not None else None
        if value is None and not ref.get("optional"):
            namespace = pod["metadata"].get("namespace", "")
            raise ConfigError(f"couldn't find key {ref['key']} in {kind} {namespace}/{ref['name']}")
        return value
    raise ConfigError(
        "valueFrom names no source; use one of fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef"
    )


def field(pod: JSON, path: str, sources: Sources) -> str:
    """A downward API field as text. Raises ConfigError for a path that is not offered."""
    meta, spec = pod["metadata"], pod["spec"]
    simple = {
        "metadata.name": meta.get("name", ""),
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": spec.get("nodeName") or sources.node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": sources.node_ips[0] if sources.node_ips else "",
        "status.hostIPs": ",".join(sources.node_ips),
        "status.podIP": sources.pod_ips[0] if sources.pod_ips else "",
        "status.podIPs": ",".join(sources.pod_ips),
    }
    if path in simple:
        return str(simple[path])
    for part in ("labels", "annotations"):
        values = meta.get(part) or {}
        if path == f"metadata.{part}":
            return "\n".join(f"{key}={_quoted(values[key])}" for key in sorted(values))
        if path.startswith(f"metadata.{part}['") and path.endswith("']"):
            return str(values.get(path[len(f"metadata.{part}['") : -2], ""))
    raise ConfigError(f"unsupported fieldPath: {path}")


def _quoted(text: str) -> str:
    """As Go writes a string in quotes."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return "\\" + _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def resource(pod: JSON, spec: JSON, ref: JSON, allocatable: Mapping[str, str]) -> str:
    """A request or limit in units of the divisor, rounded up.

    A limit that is missing or zero is the pod's own, or what the node may hand out; other missing ones are 0.
    """
    chosen, name = spec, ref.get("containerName")
    if name:
        everyone = [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
        found = next((c for c in everyone if c["name"] == name), None)
        if found is None:
            raise ConfigError(f"container {name} not found")
        chosen = found
    part, _, what = str(ref["resource"]).partition(".")
    if part not in ("limits", "requests") or not (what in _DEFAULTED or what.startswith("hugepages-")):
        raise ConfigError(f"unsupported container resource : {ref['resource']}")
    amount = number(((chosen.get("resources") or {}).get(part) or {}).get(what) or 0)
    if not amount and part == "limits" and what in _DEFAULTED:
        own = ((pod["spec"].get("resources") or {}).get("limits") or {}).get(what)
        amount = number(own or 0) or number(allocatable.get(what) or 0)
    divisor = number(ref.get("divisor") or 1) or number(1)
    return str(int((amount / divisor).to_integral_value(ROUND_CEILING)))


def service_variables(pod: JSON, services: list[JSON]) -> dict[str, str]:
    """``WEB_SERVICE_HOST`` and friends; only the kubernetes service where enableServiceLinks is false."""
    links = pod["spec"].get("enableServiceLinks", True)
    namespace = pod["metadata"].get("namespace", "")
    chosen: dict[str, JSON] = {}
    for service in services:
        meta = service["metadata"]
        if service["spec"].get("clusterIP") in (None, "", "None") or not service["spec"].get("ports"):
            continue
        if meta["namespace"] == "default" and meta["name"] == "kubernetes":
            chosen.setdefault("kubernetes", service)
        elif meta["namespace"] == namespace and links:
            chosen[meta["name"]] = service  # one of the pod's own namespace goes first
    result: dict[str, str] = {}
    for name in sorted(chosen):
        spec = chosen[name]["spec"]
        address, ports = spec["clusterIP"], spec["ports"]
        prefix = name.upper().replace("-", "_")
        result[f"{prefix}_SERVICE_HOST"] = address
        result[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        host = f"[{address}]" if ":" in address else address
        for index, port in enumerate(ports):
            if port.get("name"):
                result[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{host}:{port['port']}"
            if index == 0:
                result[f"{prefix}_PORT"] = url
            stem = f"{prefix}_PORT_{port['port']}_{protocol}"
            result[stem] = url
            result[f"{stem}_PROTO"] = protocol.lower()
            result[f"{stem}_PORT"] = str(port["port"])
            result[f"{stem}_ADDR"] = address
    return result
