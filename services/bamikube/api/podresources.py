"""What a whole pod requests and is limited to, as exact quantities: what limit ranges and quotas count.

Containers run together, so theirs add up; init containers run one after another before them, so only the largest of
each resource counts, except sidecars (init containers that restart always), which stay and count for everything after
them. Limits and requests given for the pod as a whole take the place of the sum; the overhead of a runtime class comes
on top.

Worked example: containers 500m and 250m, an init container 2: the pod requests 2 cpu; with the sum 2500m it would be
2500m.

Source: KEP-753 (sidecars), KEP-688 (pod overhead), KEP-2837 (pod-level resources).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.api.quantity import Quantity

Amounts = dict[str, Quantity]


def amounts(listed: Mapping[str, Any] | None) -> Amounts:
    """The quantities of a resource list. Raises QuantityError."""
    return {name: Quantity.parse(text) for name, text in (listed or {}).items()}


def add(total: Amounts, more: Mapping[str, Quantity]) -> None:
    """Add ``more`` to ``total``, in place."""
    for name, amount in more.items():
        before = total.get(name)
        total[name] = amount if before is None else before.add(amount)


def _raise_to(total: Amounts, floor: Mapping[str, Quantity]) -> None:
    for name, amount in floor.items():
        before = total.get(name)
        if before is None or before < amount:
            total[name] = amount


def requests(spec: Mapping[str, Any]) -> Amounts:
    """What the pod requests. Raises QuantityError."""
    total = _total(spec, "requests")
    add(total, amounts(spec.get("overhead")))
    return total


def limits(spec: Mapping[str, Any]) -> Amounts:
    """What the pod is limited to. Overhead raises only limits that are there. Raises QuantityError."""
    total = _total(spec, "limits")
    overhead = amounts(spec.get("overhead"))
    add(total, {name: amount for name, amount in overhead.items() if total.get(name)})
    return total


def _total(spec: Mapping[str, Any], field: str) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, amounts((container.get("resources") or {}).get(field)))
    stay: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        wants = amounts((container.get("resources") or {}).get(field))
        if container.get("restartPolicy") == "Always":
            add(total, wants)
            add(stay, wants)
            _raise_to(peak, stay)
        else:
            together = dict(stay)
            add(together, wants)
            _raise_to(peak, together)
    _raise_to(total, peak)
    total.update(amounts((spec.get("resources") or {}).get(field)))
    return total
