"""What is said of a pod that has to go, in the kubelet's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bamikube.api.quantity import BINARY, Quantity, QuantityError
from bamikube.nodeagent.eviction.decide import Observations
from bamikube.nodeagent.eviction.thresholds import SIGNALS, Threshold
from bamikube.nodeagent.eviction.usage import ContainerUse, PodUse
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

REASON = "Evicted"


def starved(
    pod: JSON, use: PodUse | None, resource: str, due: Iterable[Threshold], observed: Observations
) -> str:
    """Why a pod goes when the node is short of ``resource``: what is left, and who took more than it asked for."""
    text = f"The node was low on resource: {resource}. "
    for threshold in due:
        if SIGNALS[threshold.signal].resource == resource and threshold.signal in observed:
            seen = observed[threshold.signal]
            wanted = threshold.value.of(seen.capacity, threshold.signal)
            text += f"Threshold quantity: {wanted}, available: {seen.left()}. "
            break
    for name, amount, request in _above(pod, use, resource):
        text += f"Container {name} was using {amount}, request is {request}, has larger consumption of {resource}. "
    return text


def notes(pod: JSON, use: PodUse | None, resource: str) -> dict[str, str]:
    """The same for programs, on the event."""
    above = _above(pod, use, resource)
    return {
        "offending_containers": ",".join(name for name, _, _ in above),
        "offending_containers_usage": ",".join(str(amount) for _, amount, _ in above),
        "starved_resource": resource,
    }


def _above(pod: JSON, use: PodUse | None, resource: str) -> list[tuple[str, Quantity, Quantity]]:
    """The containers that use more than they request: name, use, request."""
    found = []
    for name, container in (use.containers if use is not None else {}).items():
        spec = next((c for c in facts.containers(pod) if c["name"] == name), None)
        if spec is None:
            continue
        amount, wanted = _amount(container, resource), _request(spec, resource)
        if amount is not None and amount > wanted:
            found.append((name, amount, wanted))
    return found


def _amount(container: ContainerUse, resource: str) -> Quantity | None:
    if resource == "memory":
        return Quantity.of(container.memory, BINARY)
    if resource == "ephemeral-storage":
        return Quantity.of(container.layer.bytes + container.logs.bytes, BINARY)
    return None


def _request(spec: JSON, resource: str) -> Quantity:
    try:
        return Quantity.parse(((spec.get("resources") or {}).get("requests") or {}).get(resource, 0))
    except QuantityError:
        return Quantity(0)


def full_volume(name: str, limit: Quantity) -> str:
    return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '


def full_container(name: str, limit: Quantity) -> str:
    return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '


def full_pod(limit: Quantity) -> str:
    return f"Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "


def refused(conditions: Iterable[str]) -> str:
    """Why a pod is not taken in."""
    return f"The node had condition: [{' '.join(sorted(conditions))}]. "
