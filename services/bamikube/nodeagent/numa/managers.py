"""The managers of processors, memory, devices and topology together: what a pod is given of the machine when it is taken in.

With a policy of the topology manager all managers are asked for hints first, for each container (or for the pod as a whole), and give of the
nodes that were decided on. Without one each gives as it likes. What a pod was given before it was refused is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bamikube.kit.tallies import Counters
from bamikube.nodeagent.cpus.choice import listed
from bamikube.nodeagent.cpus.pool import CpuPool
from bamikube.nodeagent.numa import figures, topology
from bamikube.nodeagent.numa.hints import Hint, Hints, Nodes
from bamikube.nodeagent.numa.memory import MemoryBook
from bamikube.nodeagent.numa.topology import Topology
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.admission import Refusal, Refused
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.placing import ANYWHERE, Place


class DeviceHints(Protocol):
    """Of which nodes a container, or a pod as a whole, could be given its devices."""

    def __call__(self, pod: JSON, spec: JSON | None, nodes: Nodes) -> Hints: ...


@dataclass(slots=True)
class Managers:
    """None for a manager whose policy is ``none``. ``now``: milliseconds, to tell how long an admission took."""

    cpus: CpuPool | None = None
    memory: MemoryBook | None = None
    topology: Topology | None = None
    devices: DeviceHints = lambda _pod, _spec, _nodes: {}
    now: Callable[[], float] = lambda: 0.0
    _decided: dict[str, dict[str, Hint]] = field(default_factory=dict)  # by uid and container

    # -- a pod arrives -------------------------------------------------------------------------------------------

    def admit(self, pod: JSON, others: Collection[JSON]) -> Refusal | None:
        """Give a pod what it is to have, beside ``others`` that have a place on the node. Reason and message if that cannot be."""
        uid, begun = facts.uid(pod), self.now()
        self.keep({uid, *(facts.uid(other) for other in others)})
        figures.ADMISSIONS.of().inc()
        try:
            self._give(pod)
        except Refused as error:
            self._take_back(uid)
            return error.refusal
        finally:
            figures.ADMISSION_TIME.of().observe(self.now() - begun)
        return None

    def _give(self, pod: JSON) -> None:
        hint = self._decide(pod, None) if self.topology is not None and self.topology.whole_pods else None
        for spec in facts.all_containers(pod):
            near = hint
            if self.topology is not None:
                near = hint or self._decide(pod, spec)
                self._decided.setdefault(facts.uid(pod), {})[spec["name"]] = near
            if self.cpus is not None:
                self.cpus.give(pod, spec, near.nodes if near else None)
            if self.memory is not None:
                self.memory.give(pod, spec, near)
            if self.topology is not None and hint is None:
                _aligned(self.topology, figures.ALIGNED)
        if self.topology is not None and hint is not None:
            _aligned(self.topology, figures.ALIGNED)

    def _decide(self, pod: JSON, spec: JSON | None) -> Hint:
        """The nodes for a container, or for the pod as a whole. Raises Refused."""
        assert self.topology is not None
        found: list[Hints] = [self.devices(pod, spec, self.topology.everywhere)]
        for manager in (self.cpus, self.memory):
            if manager is not None:
                found.append(manager.pod_hints(pod) if spec is None else manager.hints(pod, spec))
        hint, taken = self.topology.decide(found)
        if not taken:
            figures.ADMISSION_ERRORS.of().inc()
            _aligned(self.topology, figures.ALIGNED_ERRORS)
            raise Refused(topology.MESSAGE, topology.REASON)
        return hint

    # -- what others ask -----------------------------------------------------------------------------------------

    def near(self, uid: str, name: str) -> Nodes | None:
        """The nodes that a container is to have its devices of; None for any."""
        hint = self._decided.get(uid, {}).get(name)
        return hint.nodes if hint is not None else None

    def place(self, uid: str, name: str) -> Place:
        """Where a container runs."""
        if self.cpus is None and self.memory is None:
            return ANYWHERE
        return Place(
            self.cpus.of(uid, name) if self.cpus is not None else "",
            listed(self.memory.of(uid, name)) if self.memory is not None else "",
            alone=self.cpus is not None and bool(self.cpus.own(uid, name)),
        )

    def alone(self, uid: str) -> bool:
        """Whether a pod has processors for itself."""
        return self.cpus is not None and uid in self.cpus.assigned

    def fixed(self) -> Mapping[str, str]:
        """What guaranteed pods are not resized by, and the policy that has it so."""
        found = {}
        if self.cpus is not None:
            found["cpu"] = 'CPU Manager policy "static"'
        if self.memory is not None:
            found["memory"] = 'Memory Manager policy "Static"'
        return found

    # -- a pod leaves --------------------------------------------------------------------------------------------

    def keep(self, uids: Collection[str]) -> None:
        """Take back what pods have that are not among these, once all pods are known."""
        for manager in (self.cpus, self.memory):
            if manager is not None:
                manager.keep(uids)
        for uid in self._decided.keys() - set(uids):
            del self._decided[uid]

    def _take_back(self, uid: str) -> None:
        for manager in (self.cpus, self.memory):
            if manager is not None:
                manager.take_back(uid)
        self._decided.pop(uid, None)

    def all_known(self, whole: Callable[[], bool]) -> None:
        """``whole`` says whether all pods are known that have a place on the node."""
        for manager in (self.cpus, self.memory):
            if manager is not None:
                manager.whole = whole


def _aligned(chosen: Topology, counters: Counters) -> None:
    """Count what is of one NUMA node for certain, or could not be."""
    if chosen.policy == topology.SINGLE:
        counters.of("pod" if chosen.whole_pods else "container", "numa_node").inc()
