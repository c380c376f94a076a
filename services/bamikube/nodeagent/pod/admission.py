"""What a node refuses although the scheduler (or a person, with spec.nodeName) sent it here. Pure."""

from __future__ import annotations

from bamikube.api.predicates.ports import clash, host_ports
from bamikube.nodeagent.pod.facts import JSON


def admit(pod: JSON, others: list[JSON], node: str, max_pods: int) -> tuple[str, str] | None:
    """Reason and message of a refusal, or None. ``others`` are the pods that hold their place on the node."""
    name = pod["spec"].get("nodeName")
    if name and name != node:
        return "NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name"
    if len(others) >= max_pods:
        return (
            "OutOfpods",
            f"Node didn't have enough resource: pods, requested: 1, used: {len(others)}, capacity: {max_pods}",
        )
    wanted = host_ports(pod)
    if wanted and clash(wanted, (port for other in others for port in host_ports(other))):
        return (
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        )
    return None
