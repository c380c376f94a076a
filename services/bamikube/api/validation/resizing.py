"""What a resize may change in a pod: cpu and memory of containers that keep running, within the pod's QoS class.

Source: KEP-1287, "Resize CPU and Memory Resources assigned to Containers".
"""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.qos import qos_class
from bamikube.api.validation.containers import resources
from bamikube.api.validation.rules import forbidden, invalid

_MUTABLE = ("cpu", "memory")
MIRROR = "kubernetes.io/config.mirror"


def take_resources(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Move resources and resize policies of ``wanted``'s containers into ``stored``, in place; nothing else counts."""
    spec, new = stored.get("spec") or {}, wanted.get("spec") or {}
    for kind in ("containers", "initContainers"):
        after = {each.get("name"): each for each in new.get(kind) or ()}
        for container in spec.get(kind) or ():
            given = after.get(container.get("name"))
            if given is None:
                continue
            container["resources"] = given.get("resources") or {}
            if given.get("resizePolicy"):
                container["resizePolicy"] = given["resizePolicy"]
            else:
                container.pop("resizePolicy", None)


def _frozen(given: dict[str, Any]) -> dict[str, Any]:
    """What of a container's resources stays as it is."""
    kept = {key: value for key, value in given.items() if key not in ("limits", "requests")}
    for kind in ("limits", "requests"):
        kept[kind] = {
            name: amount for name, amount in (given.get(kind) or {}).items() if name not in _MUTABLE
        }
    return kept


def _container(field: str, after: dict[str, Any], before: dict[str, Any]) -> list[Cause]:
    now, was = after.get("resources") or {}, before.get("resources") or {}
    causes = resources(field, now)
    for kind in ("limits", "requests"):
        if set(was.get(kind) or ()) - set(now.get(kind) or ()):
            causes.append(forbidden(f"{field}.{kind}", f"resource {kind} cannot be removed"))
    return causes


def resized(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """What is wrong with ``new``, which differs from ``old`` in resources alone."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if MIRROR in ((old.get("metadata") or {}).get("annotations") or {}):
        return [forbidden("", "static pods cannot be resized")]
    causes: list[Cause] = []
    for kind in ("containers", "initContainers"):
        pairs = zip(after.get(kind) or (), before.get(kind) or (), strict=True)
        for index, (now, was) in enumerate(pairs):
            if now.get("resources") == was.get("resources"):
                continue
            if kind == "initContainers" and was.get("restartPolicy") != "Always":
                causes.append(
                    forbidden("spec", "only cpu and memory resources for sidecar containers are mutable")
                )
                continue
            if _frozen(now.get("resources") or {}) != _frozen(was.get("resources") or {}):
                causes.append(forbidden("spec", "only cpu and memory resources are mutable"))
            causes += _container(f"spec.{kind}[{index}].resources", now, was)
    if not causes:
        held = (old.get("status") or {}).get("qosClass") or qos_class(before)
        if qos_class(after) != held:
            detail = "Pod QOS Class may not change as a result of resizing"
            causes.append(invalid("spec", qos_class(after), detail))
    return causes
