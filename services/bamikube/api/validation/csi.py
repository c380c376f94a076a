"""Rules of the kinds CSI drivers are described by, and of attachments and attribute classes of volumes.

Source: the API reference (storage.k8s.io/v1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_subdomain, is_qualified_name
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    immutable,
    invalid,
    label_selector,
    named,
    not_negative,
    not_negative_amount,
    not_supported,
    one_of,
    required,
    too_long,
)

LONGEST_DRIVER = 63
LONGEST_NODE_ID = 256
LONGEST_MESSAGE = 1024
SHORTEST_TOKEN = 600  # seconds
MOST_PARAMETERS = 512
PARAMETERS_LIMIT = 256 * 1024  # bytes of all keys and values


def driver_name(field: str, name: str | None) -> list[Cause]:
    """A CSI driver is called like a domain, in any case, in at most 63 characters."""
    if not name:
        return [required(field)]
    causes = [too_long(field, LONGEST_DRIVER)] if len(name) > LONGEST_DRIVER else []
    return causes + [invalid(field, name, message) for message in is_dns1123_subdomain(name.lower())]


def parameters(field: str, given: dict[str, str], *, needed: bool = False) -> list[Cause]:
    """Opaque words for a driver, within bounds."""
    if needed and not given:
        return [required(field, "must contain at least one key/value pair")]
    causes: list[Cause] = []
    if len(given) > MOST_PARAMETERS:
        causes.append(too_long(field, MOST_PARAMETERS))
    if any(not key for key in given):
        causes.append(invalid(field, given, "field can not be empty."))
    if sum(len(key) + len(value) for key, value in given.items()) > PARAMETERS_LIMIT:
        causes.append(too_long(field, PARAMETERS_LIMIT))
    return causes


def _driver(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = driver_name("metadata.name", (obj.get("metadata") or {}).get("name"))
    for name in ("attachRequired", "podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
        if spec.get(name) is None:
            causes.append(required(f"spec.{name}"))
    for index, mode in enumerate(spec.get("volumeLifecycleModes") or ()):
        if mode not in ("Ephemeral", "Persistent"):
            field = f"spec.volumeLifecycleModes[{index}]"
            causes.append(not_supported(field, mode, ("Ephemeral", "Persistent")))
    policies = ("File", "None", "ReadWriteOnceWithFSType")
    causes += one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies)
    audiences: set[str] = set()
    for index, each in enumerate(spec.get("tokenRequests") or ()):
        field, audience = f"spec.tokenRequests[{index}]", each.get("audience") or ""
        if audience in audiences:
            causes.append(duplicate(f"{field}.audience", audience))
        audiences.add(audience)
        seconds = each.get("expirationSeconds")
        if seconds is not None and seconds < SHORTEST_TOKEN:
            detail = "may not specify a duration less than 10 minutes"
            causes.append(invalid(f"{field}.expirationSeconds", seconds, detail))
        elif seconds is not None and seconds > 1 << 32:
            detail = "may not specify a duration larger than 2^32 seconds"
            causes.append(invalid(f"{field}.expirationSeconds", seconds, detail))
    return causes


def _driver_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    for name in ("attachRequired", "volumeLifecycleModes"):
        causes += immutable(f"spec.{name}", after.get(name), before.get(name))
    return causes


def _node(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, each in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        field, name = f"spec.drivers[{index}]", each.get("name") or ""
        causes += driver_name(f"{field}.name", name)
        if name in seen:
            causes.append(duplicate(f"{field}.name", name))
        seen.add(name)
        node = each.get("nodeID") or ""
        if not node:
            causes.append(required(f"{field}.nodeID"))
        elif len(node) > LONGEST_NODE_ID:
            detail = f"must be {LONGEST_NODE_ID} characters or less"
            causes.append(invalid(f"{field}.nodeID", node, detail))
        causes += not_negative(f"{field}.allocatable.count", (each.get("allocatable") or {}).get("count"))
        keys: set[str] = set()
        for key in each.get("topologyKeys") or ():
            if not key:
                causes.append(required(f"{field}.topologyKeys"))
            elif key in keys:
                causes.append(duplicate(f"{field}.topologyKeys", key))
            keys.add(key)
            causes += [invalid(f"{field}.topologyKeys", key, text) for text in is_qualified_name(key) if key]
    return causes


def _node_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """A driver on a node may come, go, or change what it can allocate."""
    before = {each.get("name"): each for each in (old.get("spec") or {}).get("drivers") or ()}
    causes: list[Cause] = []
    for each in (new.get("spec") or {}).get("drivers") or ():
        was = before.get(each.get("name"))
        if was is None:
            continue
        if any(each.get(field) != was.get(field) for field in ("nodeID", "topologyKeys")):
            causes.append(invalid("spec.drivers[" + str(each.get("name")) + "]", each, "field is immutable"))
    return causes


def _capacity(obj: dict[str, Any]) -> list[Cause]:
    causes = named("storageClassName", obj.get("storageClassName"), is_dns1123_subdomain)
    causes += label_selector("nodeTopology", obj.get("nodeTopology"))
    for field in ("capacity", "maximumVolumeSize"):
        if obj.get(field) is not None:
            causes += not_negative_amount(field, obj[field])
    return causes


def _capacity_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    causes = immutable("nodeTopology", new.get("nodeTopology"), old.get("nodeTopology"))
    return causes + immutable("storageClassName", new.get("storageClassName"), old.get("storageClassName"))


def _attachment(obj: dict[str, Any]) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = driver_name("spec.attacher", spec.get("attacher"))
    source = spec.get("source") or {}
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and name is None:
        detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        causes.append(required("spec.source", detail))
    elif inline is not None and name is not None:
        detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        causes.append(forbidden("spec.source", detail))
    elif name is not None:
        causes += named("spec.source.persistentVolumeName", name, is_dns1123_subdomain)
    return causes + named("spec.nodeName", spec.get("nodeName"), is_dns1123_subdomain)


def _attachment_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return immutable("spec", new.get("spec"), old.get("spec"))


def _attachment_status(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    status = new.get("status") or {}
    causes: list[Cause] = []
    for name in ("attachError", "detachError"):
        if len((status.get(name) or {}).get("message") or "") > LONGEST_MESSAGE:
            causes.append(too_long(f"status.{name}.message", LONGEST_MESSAGE))
    return causes


def _attributes(obj: dict[str, Any]) -> list[Cause]:
    causes = driver_name("driverName", obj.get("driverName"))
    return causes + parameters("parameters", obj.get("parameters") or {}, needed=True)


def _attributes_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return [
        forbidden(field, f"updates to {field} are forbidden.")
        for field in ("driverName", "parameters")
        if (new.get(field) or None) != (old.get(field) or None)
    ]


_GROUP = "storage.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "csidrivers"): _driver,
    (_GROUP, "csinodes"): _node,
    (_GROUP, "csistoragecapacities"): _capacity,
    (_GROUP, "volumeattachments"): _attachment,
    (_GROUP, "volumeattributesclasses"): _attributes,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "csidrivers"): _driver_change,
    (_GROUP, "csinodes"): _node_change,
    (_GROUP, "csistoragecapacities"): _capacity_change,
    (_GROUP, "volumeattachments"): _attachment_change,
    (_GROUP, "volumeattributesclasses"): _attributes_change,
}
STATUS: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (_GROUP, "volumeattachments"): _attachment_status,
}
