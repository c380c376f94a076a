"""What a node refuses although the scheduler (or a person, with spec.nodeName) sent it here, in the kubelet's words. Pure.

Each function here is one question to a pod that arrives; :mod:`bamikube.nodeagent.pod.gate` asks them in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bamikube.api.predicates.general import Failure, Insufficient, Unmet, failures
from bamikube.nodeagent.container.security import APPARMOR
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

OS = "kubernetes.io/os"
Refusal = tuple[str, str]  # reason and message


class Refused(Exception):
    """A manager of resources cannot give a container what it is to have. Without a reason of its own that is unexpected."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        text = f"Allocate failed due to {message}, which is unexpected"
        self.refusal: Refusal = (reason, message) if reason else ("UnexpectedAdmissionError", text)


def system(pod: JSON, node: Mapping[str, object]) -> Refusal | None:
    """Whether the pod is made for another operating system, or asks for groups this node cannot give."""
    label = (pod["metadata"].get("labels") or {}).get(OS)
    if label is not None and label != "linux":
        text = f"Failed to admit pod as the `{OS}` label doesn't match node label"
        return "PodOSSelectorNodeLabelDoesNotMatch", text
    if (wanted := (pod["spec"].get("os") or {}).get("name")) and wanted != "linux":
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    policy = (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy")
    status = node.get("status")
    features = (status.get("features") if isinstance(status, dict) else None) or {}
    if policy == "Strict" and not features.get("supplementalGroupsPolicy"):
        text = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return "SupplementalGroupsPolicyNotSupported", text
    return None


def fits(pod: JSON, others: Sequence[JSON], node: JSON) -> list[Failure]:
    """Everything that keeps the node from holding the pod beside ``others``, which hold their places."""
    return failures(pod, others, node, static=facts.static(pod))


def told(failure: Failure) -> Refusal:
    """A failure as reason and message."""
    if isinstance(failure, Insufficient):
        numbers = f"requested: {failure.requested}, used: {failure.used}, capacity: {failure.capacity}"
        return (
            f"OutOf{failure.resource}",
            f"Node didn't have enough resource: {failure.resource}, {numbers}",
        )
    assert isinstance(failure, Unmet)
    return failure.name, f"Predicate {failure.name} failed: {failure.detail}"


def apparmor(pod: JSON, loaded: bool) -> Refusal | None:
    """Whether a profile is asked for that nobody here would enforce. ``loaded``: the kernel has AppArmor."""
    if loaded or (pod.get("status") or {}).get("phase") not in (None, "Pending"):
        return None
    contexts = [pod["spec"].get("securityContext")]
    every = (*facts.all_containers(pod), *facts.ephemeral_containers(pod))
    contexts += [container.get("securityContext") for container in every]
    kinds = {((context or {}).get("appArmorProfile") or {}).get("type") for context in contexts}
    noted = pod["metadata"].get("annotations") or {}
    if kinds & {"RuntimeDefault", "Localhost"} or any(
        key.startswith(APPARMOR) and text != "unconfined" for key, text in noted.items()
    ):
        return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return None
