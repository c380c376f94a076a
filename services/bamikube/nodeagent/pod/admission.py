"""What a node refuses although the scheduler (or a person, with spec.nodeName) sent it here. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON


def admit(pod: JSON, others: list[JSON], node: str, max_pods: int) -> tuple[str, str] | None:
    """Reason and message of a refusal, or None. ``others`` are the pods that hold their place on the node."""
    name = pod["spec"].get("nodeName")
    if name and name != node:
        return "NodeName", f"Pod was rejected: it is bound to node {name}, this is {node}"
    if len(others) >= max_pods:
        return (
            "OutOfpods",
            f"Node didn't have enough resource: pods, requested: 1, used: {len(others)}, capacity: {max_pods}",
        )
    taken = {port for other in others for port in _host_ports(other)}
    for port in _host_ports(pod):
        clash = next((t for t in taken if _clash(port, t)), None)
        if clash is not None:
            return (
                "NodePorts",
                "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
            )
    return None


def _host_ports(pod: JSON) -> Iterator[tuple[str, str, int]]:
    for spec in facts.all_containers(pod):
        for port in spec.get("ports") or ():
            number = port.get("hostPort") or (port["containerPort"] if facts.host_network(pod) else 0)
            if number:
                yield port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(number)


def _clash(a: tuple[str, str, int], b: tuple[str, str, int]) -> bool:
    return a[1:] == b[1:] and (a[0] == b[0] or "0.0.0.0" in (a[0], b[0]))
