"""Who has processors for himself: the static policy of the CPU manager.

A container of a guaranteed pod that asks for whole processors gets them for itself when the pod is taken in; all others run on what is
left, the shared pool, which the reserved ones never leave. What an init container has had, a later container of the
pod may have. The assignment outlives the node agent in ``cpu_manager_state``, in the kubelet's form but without its checksum.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bamikube.api.qos import qos_class
from bamikube.nodeagent.cpus import choice
from bamikube.nodeagent.cpus.choice import Machine
from bamikube.nodeagent.node.reservations import processors
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number

UNEXPECTED, ALIGNMENT = "UnexpectedAdmissionError", "SMTAlignmentError"
FULL_CORES = "full-pcpus-only"
STATE = "cpu_manager_state"
Assigned = dict[str, dict[str, frozenset[int]]]  # by pod and container


def wanted(pod: JSON, spec: JSON) -> int:
    """How many processors a container is to have for itself."""
    if pod["spec"].get("resources") or qos_class(pod["spec"]) != "Guaranteed":
        return 0
    limits = (spec.get("resources") or {}).get("limits") or {}
    amount = number(limits.get("cpu", 0))
    return int(amount) if amount == int(amount) else 0


def options(policy: str, given: Mapping[str, str]) -> bool:
    """Whether only whole cores are given away. Raises ValueError for an option that is not known."""
    if given and policy != "static":
        raise ValueError(f'--cpu-manager-policy-options: policy "{policy}" takes no options; static does')
    for name in given:
        if name != FULL_CORES:
            raise ValueError(
                f"--cpu-manager-policy-options: {name!r} is not supported; there is {FULL_CORES}=true"
            )
    text = given.get(FULL_CORES, "false").lower()
    if text not in ("true", "false"):
        raise ValueError(f"--cpu-manager-policy-options: bad value for option {FULL_CORES!r}: {text!r}")
    return text == "true"


@dataclass(slots=True)
class CpuPool:
    """``reserved`` are never anybody's own; ``assigned`` is who has which; ``whole`` says whether all pods are known that have a
    place on the node."""

    machine: Machine
    reserved: frozenset[int]
    full_cores: bool
    file: Path
    assigned: Assigned = field(default_factory=dict)
    whole: Callable[[], bool] = lambda: True

    def admit(self, pod: JSON, others: Collection[JSON]) -> tuple[str, str] | None:
        """Give the containers of a pod their processors, beside ``others`` that have a place on the node. Reason and message if
        there are not enough."""
        uid = facts.uid(pod)
        self.keep({uid, *(facts.uid(other) for other in others)})
        if uid in self.assigned:
            return None
        free = {one.number for one in self.machine} - self.reserved - self._own()
        again: frozenset[int] = frozenset()
        mine: dict[str, frozenset[int]] = {}
        for spec in facts.all_containers(pod):
            count, available = wanted(pod, spec), free | again
            if not count:
                continue
            if (refusal := self._refusal(count, len(available))) is not None:
                return refusal
            mine[spec["name"]] = chosen = choice.take(self.machine, available, count)
            free -= chosen
            once = spec in facts.init_containers(pod) and not facts.is_sidecar(spec)
            again = again | chosen if once else again - chosen
        if mine:
            self.assigned[uid] = mine
            self._save()
        return None

    def _refusal(self, count: int, available: int) -> tuple[str, str] | None:
        core = choice.threads(self.machine)
        if self.full_cores and count % core:
            text = f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {core}"
            return ALIGNMENT, text
        if count > available:
            text = f"not enough cpus available to satisfy request: requested={count}, available={available}"
            return UNEXPECTED, f"Allocate failed due to {text}, which is unexpected"
        return None

    def _own(self) -> frozenset[int]:
        return frozenset(cpu for mine in self.assigned.values() for chosen in mine.values() for cpu in chosen)

    def of(self, uid: str, name: str) -> str:
        """The processors a container runs on, its own or the shared ones, as the kernel lists them."""
        own = self.assigned.get(uid, {}).get(name)
        return choice.listed(own or {one.number for one in self.machine} - self._own())

    def keep(self, uids: Collection[str]) -> None:
        """Take back what pods have that are not among these, once all pods are known."""
        if (gone := self.assigned.keys() - set(uids)) and self.whole():
            for uid in gone:
                del self.assigned[uid]
            self._save()

    # -- what outlives the node agent --------------------------------------------------------------------------

    def _save(self) -> None:
        shared = {one.number for one in self.machine} - self._own()
        entries = {
            uid: {name: choice.listed(chosen) for name, chosen in mine.items()}
            for uid, mine in self.assigned.items()
        }
        state = {"policyName": "static", "defaultCpuSet": choice.listed(shared), "entries": entries}
        fresh = self.file.with_name(f".{self.file.name}")
        fresh.write_text(json.dumps(state))
        fresh.replace(self.file)

    def load(self) -> None:
        """Recall what was assigned. Raises ValueError for a file that cannot be of this machine."""
        if not self.file.exists():
            self._save()
            return
        advice = f"please drain this node and delete the CPU manager checkpoint file {str(self.file)!r} before restarting"
        try:
            state = json.loads(self.file.read_text())
            entries = state.get("entries") or {}
            found = {
                uid: {name: processors("cpuset", text) for name, text in mine.items()}
                for uid, mine in entries.items()
            }
        except (ValueError, AttributeError) as error:
            raise ValueError(f"could not restore state from checkpoint: {error}, {advice}") from error
        self.assigned = found
        if not self._own() <= {one.number for one in self.machine} - self.reserved:
            raise ValueError(
                f"could not restore state from checkpoint: processors are gone or reserved, {advice}"
            )


def static(machine: Machine, named: frozenset[int], amount: float, full_cores: bool, folder: Path) -> CpuPool:
    """The pool of a node; ``amount``: how much of its processors is reserved, if none are named. Raises ValueError."""
    count = math.ceil(amount)
    if not named and count <= 0:
        raise ValueError(
            "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero; "
            "give --reserved-cpus, --kube-reserved or --system-reserved"
        )
    reserved = named or choice.take(machine, {one.number for one in machine}, count)
    pool = CpuPool(machine, reserved, full_cores, folder / STATE)
    pool.load()
    return pool
