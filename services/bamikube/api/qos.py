"""The quality-of-service class of a pod: who is evicted first when a node runs out.

- ``Guaranteed``: every container limits cpu and memory, and asks for exactly its limits;
- ``BestEffort``: no container asks for or limits cpu or memory;
- ``Burstable``: everything in between.

Source: "Pod Quality of Service Classes" of the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.quantity import Quantity

_COUNTED = ("cpu", "memory")


def _amounts(listed: dict[str, Any] | None) -> dict[str, Quantity]:
    found = {}
    for name in _COUNTED:
        if listed and name in listed:
            amount = Quantity.parse(str(listed[name]))
            if amount != Quantity.parse("0"):
                found[name] = amount
    return found


def qos_class(spec: dict[str, Any]) -> str:
    """The class of a pod with this spec. Unreadable quantities count as not given (validation refuses them)."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    holders = (
        [spec["resources"]] if spec.get("resources") else [each.get("resources") or {} for each in containers]
    )
    guaranteed, asked = bool(holders), False
    for resources in holders:
        try:
            limits, requests = _amounts(resources.get("limits")), _amounts(resources.get("requests"))
        except ValueError:
            continue
        if limits or requests:
            asked = True
        if len(limits) < len(_COUNTED) or any(
            requests.get(name, limits[name]) != limits[name] for name in limits
        ):
            guaranteed = False
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
