"""What a pod asks of its node, in whole numbers: the sum that scheduler and node agent must compute alike.

Containers run together, so their requests add up. Init containers run one after another before them, so only the
largest counts - except sidecars (init containers that restart always), which stay: each counts for everything after it.

Worked example: sidecar 1 cpu, init 3 cpu, container 2 cpu. While the init container runs the pod needs 1+3, later 1+2:
the request is 4 cpu.

Source: KEP-753 (sidecars), KEP-688 (pod overhead), KEP-2837 (pod-level resources).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bamikube.api.quantity import Quantity

Requests = dict[str, int]


@lru_cache(maxsize=4096)
def amount(resource: str, text: str | int | float) -> int:
    """A quantity as a whole number: thousandths of a core for ``cpu``, units (bytes) for everything else."""
    quantity = Quantity.parse(text)
    return quantity.milli_value() if resource == "cpu" else quantity.value()


def amounts(quantities: Mapping[str, Any] | None) -> Requests:
    """Every quantity of a resource list as a whole number. Raises QuantityError."""
    return {resource: amount(resource, text) for resource, text in (quantities or {}).items()}


def _add(total: Requests, more: Requests) -> None:
    for resource, number in more.items():
        total[resource] = total.get(resource, 0) + number


def _raise_to(total: Requests, floor: Requests) -> None:
    for resource, number in floor.items():
        if number > total.get(resource, 0):
            total[resource] = number


def _wants(container: Mapping[str, Any]) -> Requests:
    resources = container.get("resources") or {}
    # A limit without a request is a request; the API server's defaults say so too.
    return amounts((resources.get("limits") or {}) | (resources.get("requests") or {}))


def requests(pod: Mapping[str, Any]) -> Requests:
    """The pod's request of every resource it names, without ``pods``. Raises QuantityError."""
    return _requests(pod, {})


def nonzero_requests(pod: Mapping[str, Any]) -> tuple[int, int]:
    """CPU (milli) and memory (bytes) for scoring: containers that ask for nothing count as 100m and 200 MiB."""
    found = _requests(pod, {"cpu": 100, "memory": 200 * 1024 * 1024})
    return found.get("cpu", 0), found.get("memory", 0)


def _requests(pod: Mapping[str, Any], assumed: Requests) -> Requests:
    spec = pod.get("spec") or {}
    total: Requests = {}
    for container in spec.get("containers") or []:
        _add(total, assumed | _wants(container))
    stay: Requests = {}
    peak: Requests = {}
    for container in spec.get("initContainers") or []:
        wants = assumed | _wants(container)
        if container.get("restartPolicy") == "Always":
            _add(total, wants)
            _add(stay, wants)
            _raise_to(peak, stay)
        else:
            together = dict(stay)
            _add(together, wants)
            _raise_to(peak, together)
    _raise_to(total, peak)
    whole = amounts((spec.get("resources") or {}).get("requests"))
    total |= {
        name: n for name, n in whole.items() if name in ("cpu", "memory") or name.startswith("hugepages-")
    }
    _add(total, amounts(spec.get("overhead")))
    return total
