"""Whether a node can hold a pod that was sent to it: what the node agent asks before it runs one. Pure.

Everything that is missing is told, not only the first: who is to make room for a pod has to know it all. The order is that of
messages: pods, cpu, memory, ephemeral storage, other resources, then labels, name, ports, and taints last.

Worked example: a node of 2 cpu holds a pod of 1500m; another of 1 cpu lacks 500m of it:
``Insufficient("cpu", requested=1000, used=1500, capacity=2000)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bamikube.api.predicates import affinity, fits, ports
from bamikube.api.predicates.tolerations import untolerated

Pod = Mapping[str, Any]
NATIVE = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class Insufficient:
    """The node has too little of a resource: thousandths of a core, bytes, or pieces."""

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def lacking(self) -> int:
        return self.requested - (self.capacity - self.used)


@dataclass(frozen=True, slots=True)
class Unmet:
    """The node is not one the pod may be on. ``name`` is the scheduler's plugin that would have said so."""

    name: str
    detail: str


AFFINITY = Unmet("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
NAME = Unmet("NodeName", "node(s) didn't match the requested node name")
PORTS = Unmet("NodePorts", "node(s) didn't have free ports for the requested pod ports")
TAINTS = Unmet("TaintToleration", "node(s) had taints that the pod didn't tolerate")

Failure = Insufficient | Unmet


@cache
def extended(resource: str) -> bool:
    """Whether it is neither a native resource nor one of Kubernetes' own names."""
    domain, slash, _ = resource.partition("/")
    native = not slash or domain == "kubernetes.io" or domain.endswith(".kubernetes.io")
    return not native and not resource.startswith("requests.")


def failures(
    pod: Pod, others: Sequence[Pod], node: Mapping[str, Any], *, static: bool = False
) -> list[Failure]:
    """Why ``node`` cannot hold ``pod`` beside ``others``; nothing if it can. Static pods are not asked about taints."""
    meta, spec = node.get("metadata") or {}, pod.get("spec") or {}
    found: list[Failure] = list(
        insufficient(pod, others, (node.get("status") or {}).get("allocatable") or {})
    )
    name = str(meta.get("name") or "")
    if not affinity.required(spec)(meta.get("labels") or {}, name):
        found.append(AFFINITY)
    if spec.get("nodeName") and spec["nodeName"] != name:
        found.append(NAME)
    wanted = ports.host_ports(pod)
    if wanted and ports.clash(wanted, (port for other in others for port in ports.host_ports(other))):
        found.append(PORTS)
    taints = (node.get("spec") or {}).get("taints") or ()
    if not static and untolerated(taints, spec.get("tolerations") or (), ("NoExecute",)):
        found.append(TAINTS)
    return found


def insufficient(pod: Pod, others: Sequence[Pod], allocatable: Mapping[str, Any]) -> Iterable[Insufficient]:
    """What the node has too little of. Extended resources that the node does not know at all are somebody else's matter."""
    room = fits.amounts(allocatable)
    if len(others) + 1 > room.get("pods", 0):
        yield Insufficient("pods", 1, len(others), room.get("pods", 0))
    wants = {name: n for name, n in fits.requests(pod).items() if n and (name in room or not extended(name))}
    if not wants:
        return
    used: dict[str, int] = {}
    for other in others:
        for name, number in fits.requests(other).items():
            used[name] = used.get(name, 0) + number
    for name in (*NATIVE, *sorted(wants.keys() - set(NATIVE))):
        number, taken, most = wants.get(name, 0), used.get(name, 0), room.get(name, 0)
        if number > most - taken and number:
            yield Insufficient(name, number, taken, most)
