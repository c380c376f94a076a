"""The gate of a node: whether a pod that was sent here is taken in, and who makes room for it. Pure but for the questions it is given.

The order is the kubelet's, and the first refusal counts: is the node under pressure, are the pod's sysctls allowed, are there devices
for it, does it fit (system, resources, labels, name, ports, taints), is the machine about to go down, is there AppArmor. A critical pod is
never refused for want of resources if others can make room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bamikube.api.predicates import general
from bamikube.nodeagent import figures
from bamikube.nodeagent.eviction import refusing
from bamikube.nodeagent.pod import admission, facts, preemption
from bamikube.nodeagent.pod.admission import Refusal
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.sysctls import Allowed
from bamikube.nodeagent.shutdown import plan as shutdown

UNEXPECTED = "UnexpectedAdmissionError"
_NAMED = frozenset(
    (
        "AppArmor", "SMTAlignmentError", "TopologyAffinityError", "PodOSSelectorNodeLabelDoesNotMatch", "PodOSNotSupported", "InvalidNodeInfo",
        "SupplementalGroupsPolicyNotSupported", UNEXPECTED, "OutOfcpu", "OutOfmemory", "OutOfephemeral-storage", "OutOfpods",
        "Evicted", "SysctlForbidden", "NodeShutdown",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refusal``: reason and message, None for a pod that is taken. ``victims`` have to end before it starts, since
    the node is ``short`` of that. In ``doubt`` it is to be judged again by the newest Node object: a label may have been
    set just before the pod was bound because of it."""

    refusal: Refusal | None = None
    victims: tuple[JSON, ...] = ()
    short: str = ""
    doubt: bool = False


TAKEN = Verdict()


class Devices(Protocol):
    """What plugins offer."""

    def refusal(self, pod: JSON) -> Refusal | None:
        """Why the pod cannot be given its devices."""

    def wanted(self, pod: JSON) -> bool:
        """Whether it asks for any."""

    async def allocate(self, pod: JSON) -> Refusal | None:
        """Give it its devices; why that was not possible."""


class NoDevices:
    """A node without device plugins."""

    def refusal(self, pod: JSON) -> Refusal | None:
        return None

    def wanted(self, pod: JSON) -> bool:
        return False

    async def allocate(self, pod: JSON) -> Refusal | None:
        return None


@dataclass(frozen=True, slots=True)
class Gate:
    """``node`` is the Node object as it was last seen, ``fresh`` asks for it (raises ApiError and OSError); ``pressures`` is what the
    node is short of, as its conditions are called."""

    node: Callable[[], JSON]
    fresh: Callable[[], Awaitable[JSON]]
    sysctls: Allowed = field(default_factory=Allowed)
    pressures: Callable[[], Collection[str]] = tuple
    shutting_down: Callable[[], bool] = bool
    apparmor: bool = False  # the kernel has it
    devices: Devices = field(default_factory=NoDevices)
    # Gives a pod what it has of the machine for itself, beside those that have a place on the node.
    managers: Callable[[JSON, Sequence[JSON]], Refusal | None] = lambda _pod, _others: None

    def judge(self, pod: JSON, others: Sequence[JSON], node: JSON | None = None) -> Verdict:
        """On a pod that has just arrived. ``others`` are those that have a place on the node; ``node`` is newer than what
        was last seen."""
        refusal = refusing.refusal(pod, self.pressures()) or self.sysctls.refusal(pod)
        refusal = refusal or self.devices.refusal(pod) or self.managers(pod, others)
        if refusal is not None:
            return Verdict(refusal)
        verdict = _fits(pod, others, node or self.node(), node is None)
        if verdict.refusal is None and self.shutting_down():
            verdict = Verdict(shutdown.REFUSAL)
        if verdict.refusal is None and (refusal := admission.apparmor(pod, self.apparmor)) is not None:
            verdict = Verdict(refusal)
        return verdict


def _fits(pod: JSON, others: Sequence[JSON], node: JSON, seen_before: bool) -> Verdict:
    if (refusal := admission.system(pod, node)) is not None:
        return Verdict(refusal)
    found = admission.fits(pod, others, node)
    if not found:
        return TAKEN
    if found == [general.AFFINITY]:
        return Verdict(admission.told(found[0]), doubt=seen_before)
    if not facts.critical(pod):
        return Verdict(admission.told(found[0]))
    other = next((failure for failure in found if not isinstance(failure, general.Insufficient)), None)
    if other is not None:
        return Verdict(admission.told(other))
    needs = preemption.lacking(found)
    try:
        victims = preemption.victims(pod, others, needs)
    except preemption.NoRoom as error:
        text = "Unexpected error while attempting to recover from admission failure: preemption: "
        return Verdict((UNEXPECTED, f"{text}error finding a set of pods to preempt: {error}"))
    return Verdict(victims=tuple(victims), short=next(iter(needs)))


def count(reason: str) -> None:
    """Count a refusal."""
    figures.REJECTIONS.of(reason if reason in _NAMED else "Other").inc()
