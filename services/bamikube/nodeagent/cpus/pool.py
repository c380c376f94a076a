"""Who has processors for himself: the static policy of the CPU manager.

A container of a guaranteed pod that asks for whole processors gets them for itself when the pod is taken in; all others run on what is
left, the shared pool, which the reserved ones never leave (with ``strict-cpu-reservation`` they are never in it). What an init
container has had, a later container of the pod may have. The assignment outlives the node agent in ``cpu_manager_state``.

Source: "Control CPU Management Policies on the Node".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bamikube.api.qos import qos_class
from bamikube.nodeagent import checkpoint
from bamikube.nodeagent.cpus import choice
from bamikube.nodeagent.cpus.choice import Machine
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.cpus.spread import spread
from bamikube.nodeagent.node.reservations import processors
from bamikube.nodeagent.numa import figures
from bamikube.nodeagent.numa.hints import Hint, Hints, Nodes, sets
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.admission import Refusal, Refused
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number

ALIGNMENT = "SMTAlignmentError"
STATE = "cpu_manager_state"
Assigned = dict[str, dict[str, frozenset[int]]]  # by pod and container


def wanted(pod: JSON, spec: JSON) -> int:
    """How many processors a container is to have for itself."""
    if pod["spec"].get("resources") or qos_class(pod["spec"]) != "Guaranteed":
        return 0
    limits = (spec.get("resources") or {}).get("limits") or {}
    amount = number(limits.get("cpu", 0))
    return int(amount) if amount == int(amount) else 0


def together(pod: JSON) -> int:
    """How many processors a pod needs for itself at one time: its containers and sidecars, or an init container beside the sidecars
    before it."""
    sidecars = most = 0
    for spec in facts.init_containers(pod):
        if facts.is_sidecar(spec):
            sidecars += wanted(pod, spec)
        else:
            most = max(most, sidecars + wanted(pod, spec))
    return max(most, sidecars + sum(wanted(pod, spec) for spec in facts.containers(pod)))


@dataclass(slots=True)
class CpuPool:
    """``reserved`` are never anybody's own; ``assigned`` is who has which; ``whole`` says whether all pods are known that have a
    place on the node."""

    machine: Machine
    reserved: frozenset[int]
    options: PolicyOptions
    file: Path
    assigned: Assigned = field(default_factory=dict)
    whole: Callable[[], bool] = lambda: True

    # -- giving --------------------------------------------------------------------------------------------------

    def admit(self, pod: JSON, others: Collection[JSON]) -> Refusal | None:
        """Give the containers of a pod their processors, beside ``others`` that have a place on the node. Reason and message if
        there are not enough."""
        uid = facts.uid(pod)
        self.keep({uid, *(facts.uid(other) for other in others)})
        try:
            for spec in facts.all_containers(pod):
                self.give(pod, spec)
        except Refused as error:
            self.take_back(uid)
            return error.refusal
        return None

    def give(self, pod: JSON, spec: JSON, near: Nodes | None = None) -> None:
        """Give a container its processors, those ``near`` to some NUMA nodes first, if it is to have some and has none. Raises
        Refused."""
        uid, count = facts.uid(pod), wanted(pod, spec)
        if not count:
            return
        figures.CPU_PINNING.of().inc()
        try:
            self._check_cores(count, pod, spec)
            if spec["name"] in self.assigned.get(uid, {}):
                return
            chosen = self._choose(self.available() | self.again(pod, spec), count, near)
        except Refused:
            figures.CPU_PINNING_ERRORS.of().inc()
            raise
        self.assigned.setdefault(uid, {})[spec["name"]] = chosen
        if self.options.full_cores:
            figures.ALIGNED.of("container", "physical_cpu").inc()
        self._save()

    def _check_cores(self, count: int, pod: JSON, spec: JSON) -> None:
        if not self.options.full_cores:
            return
        try:
            self._demand_whole_cores(count, pod, spec)
        except Refused:
            figures.ALIGNED_ERRORS.of("container", "physical_cpu").inc()
            raise

    def _demand_whole_cores(self, count: int, pod: JSON, spec: JSON) -> None:
        core = choice.threads(self.machine)
        if count % core:
            text = f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {core}"
            raise Refused(text, ALIGNMENT)
        has = self.assigned.get(facts.uid(pod), {}).get(spec["name"], frozenset())
        free = len(self.available() | self.again(pod, spec) | has)
        if count > free:
            numbers = f"available physical CPUs = {free}, requested CPUs = {count}, CPUs per core = {core}"
            raise Refused(f"SMT Alignment Error: not enough free physical CPUs: {numbers}", ALIGNMENT)

    def _choose(self, free: frozenset[int], count: int, near: Nodes | None) -> frozenset[int]:
        if count > len(free):
            raise Refused(
                f"not enough cpus available to satisfy request: requested={count}, available={len(free)}"
            )
        aligned = free & self._of_nodes(near) if near is not None else frozenset[int]()
        found = self._take(aligned, min(count, len(aligned)))
        return found | self._take(free - found, count - len(found))

    def _of_nodes(self, near: Nodes) -> frozenset[int]:
        if self.options.by_socket:
            sockets = self._sockets(near)
            return choice.numbers(one for one in self.machine if one.socket in sockets)
        return choice.numbers(one for one in self.machine if one.node in near)

    def _sockets(self, nodes: Nodes) -> set[int]:
        return {one.socket for one in self.machine if one.node in nodes}

    def _take(self, free: frozenset[int], count: int) -> frozenset[int]:
        options = self.options
        if not options.spread:
            return choice.take(self.machine, free, count, options.by_cache)
        group = choice.threads(self.machine) if options.full_cores else 1
        return spread(self.machine, free, count, group, options.by_cache)

    # -- hints ---------------------------------------------------------------------------------------------------

    def hints(self, pod: JSON, spec: JSON) -> Hints:
        """Of which NUMA nodes a container could have its processors."""
        count = wanted(pod, spec)
        if not count:
            return {}
        if has := self.own(facts.uid(pod), spec["name"]):
            return {"cpu": self._possible(has, frozenset(), count) if len(has) == count else []}
        return {"cpu": self._possible(self.available(), self.again(pod, spec), count)}

    def pod_hints(self, pod: JSON) -> Hints:
        """Of which NUMA nodes a pod could have its processors as a whole."""
        count = together(pod)
        if not count:
            return {}
        assigned = frozenset[int]()
        for spec in facts.all_containers(pod):
            has = self.own(facts.uid(pod), spec["name"])
            if has and len(has) != wanted(pod, spec):
                return {"cpu": []}
            assigned |= has
        if len(assigned) == count:
            return {"cpu": self._possible(assigned, frozenset(), count)}
        return {"cpu": self._possible(self.available(), assigned, count)}

    def _possible(self, free: frozenset[int], again: frozenset[int], count: int) -> list[Hint]:
        """Every set of nodes that has ``count`` processors; all that are had ``again`` have to be of it."""
        all_of, free_of, again_of = (
            Counter(one.node for one in self.machine if one.number in some)
            for some in (choice.numbers(self.machine), free - again, again)
        )
        fewest, found = len(all_of), list[Nodes]()
        for some in sets(all_of):
            if sum(all_of[node] for node in some) >= count:
                fewest = min(fewest, len(some))
            if again_of.keys() <= some and sum(free_of[n] + again_of[n] for n in some) >= count:
                found.append(some)
        return [Hint(some, len(some) == fewest or self._of_one_socket(some, fewest)) for some in found]

    def _of_one_socket(self, some: Nodes, fewest: int) -> bool:
        """Whether nodes are of no more sockets than are needed, where sockets are what counts."""
        sockets = len(self._sockets(frozenset(one.node for one in self.machine)))
        each = len({one.node for one in self.machine}) // max(1, sockets)
        return self.options.by_socket and each > 0 and len(self._sockets(some)) == math.ceil(fewest / each)

    # -- what there is -------------------------------------------------------------------------------------------

    def allocatable(self) -> frozenset[int]:
        """All that somebody may have for himself."""
        kept = choice.siblings(self.machine, self.reserved) if self.options.full_cores else self.reserved
        return choice.numbers(self.machine) - kept

    def available(self) -> frozenset[int]:
        return self.allocatable() - self._own()

    def again(self, pod: JSON, spec: JSON) -> frozenset[int]:
        """What init containers of the pod that have ended by then leave to this one."""
        mine, left = self.assigned.get(facts.uid(pod), {}), frozenset[int]()
        for before in facts.all_containers(pod):
            if before["name"] == spec["name"]:
                break
            had = mine.get(before["name"], frozenset())
            once = any(before is i for i in facts.init_containers(pod)) and not facts.is_sidecar(before)
            left = left | had if once else left - had
        return left

    def own(self, uid: str, name: str) -> frozenset[int]:
        """What a container has for itself."""
        return self.assigned.get(uid, {}).get(name, frozenset())

    def _own(self) -> frozenset[int]:
        return frozenset(cpu for mine in self.assigned.values() for chosen in mine.values() for cpu in chosen)

    def shared(self) -> frozenset[int]:
        """Where everybody else runs."""
        rest = choice.numbers(self.machine) - self._own()
        return rest - self.reserved if self.options.strict else rest

    def of(self, uid: str, name: str) -> str:
        """The processors a container runs on, its own or the shared ones, as the kernel lists them."""
        return choice.listed(self.own(uid, name) or self.shared())

    # -- taking back ---------------------------------------------------------------------------------------------

    def keep(self, uids: Collection[str]) -> None:
        """Take back what pods have that are not among these, once all pods are known."""
        if (gone := self.assigned.keys() - set(uids)) and self.whole():
            for uid in gone:
                del self.assigned[uid]
            self._save()

    def take_back(self, uid: str) -> None:
        """From a pod that was refused."""
        if self.assigned.pop(uid, None) is not None:
            self._save()

    # -- what outlives the node agent --------------------------------------------------------------------------

    def _save(self) -> None:
        entries = {
            uid: {name: choice.listed(chosen) for name, chosen in mine.items()}
            for uid, mine in self.assigned.items()
        }
        _write(self.file, "static", choice.listed(self.shared()), entries)
        figures.SHARED_CPUS.set(1000 * len(self.shared()))
        figures.OWN_CPUS.set(len(self._own()))
        each = Counter({str(one.node): 0 for one in self.machine})
        each.update(str(one.node) for one in self.machine if one.number in self._own())
        for node, count in each.items():
            figures.OWN_CPUS_OF_NODES.labels(node).set(count)

    def load(self) -> None:
        """Recall what was assigned. Raises ValueError for a file that cannot be of this machine and its reservation."""
        state = _read(self.file, "static")
        try:
            if state is not None and (state.get("defaultCpuSet") or state.get("entries")):
                self.assigned = _checked(self, state)
        except ValueError as error:
            raise ValueError(f"start cpu manager error: {error}, {_advice(self.file)}") from error
        self._save()


def _checked(pool: CpuPool, state: Mapping[str, Any]) -> Assigned:
    """The assignments of a state. Raises ValueError."""
    shared, reserved = processors("defaultCpuSet", state["defaultCpuSet"]), pool.reserved
    found = {
        uid: {name: processors("entries", text) for name, text in mine.items()}
        for uid, mine in (state.get("entries") or {}).items()
    }
    said, kept = choice.listed(shared), choice.listed(reserved)
    if not shared:
        raise ValueError("default cpuset cannot be empty")
    if pool.options.strict and reserved & shared:
        raise ValueError(f'some of strictly reserved cpus: "{kept}" are present in defaultCpuSet: "{said}"')
    if not pool.options.strict and not reserved <= shared:
        raise ValueError(f'not all reserved cpus: "{kept}" are present in defaultCpuSet: "{said}"')
    for uid, mine in found.items():
        for name, chosen in mine.items():
            if chosen & shared:
                text = f'pod: {uid}, container: {name} cpuset: "{choice.listed(chosen)}"'
                raise ValueError(f'{text} overlaps with default cpuset "{said}"')
    every = shared.union(*(chosen for mine in found.values() for chosen in mine.values()))
    there = choice.numbers(pool.machine) - (reserved if pool.options.strict else frozenset())
    if every != there:
        raise ValueError(
            f'current set of available CPUs "{choice.listed(there)}" doesn\'t match with CPUs in state "{choice.listed(every)}"'
        )
    return found


def _printed(state: Mapping[str, Any]) -> str:
    entries = {uid: checkpoint.printed_map(mine) for uid, mine in (state.get("entries") or {}).items()}
    return (
        f"(*state.CPUManagerCheckpoint){{PolicyName:(string){state['policyName']} "
        f"DefaultCPUSet:(string){state['defaultCpuSet']} "
        f"Entries:(map[string]map[string]string){checkpoint.printed_map(entries)} Checksum:(checksum.Checksum)0}}"
    )


def _write(file: Path, policy: str, shared: str, entries: JSON) -> None:
    state = {"policyName": policy, "defaultCpuSet": shared} | ({"entries": entries} if entries else {})
    checkpoint.write(file, state, _printed)


def _advice(file: Path) -> str:
    return f'please drain this node and delete the CPU manager checkpoint file "{file}" before restarting Kubelet'


def _read(file: Path, policy: str) -> JSON | None:
    try:
        return checkpoint.read(file, policy, _printed)
    except ValueError as error:
        raise ValueError(f"could not restore state from checkpoint: {error}, {_advice(file)}") from error


def nobody(folder: Path) -> None:
    """The policy ``none`` is noted, too: another one is only begun on a node that was drained. Raises ValueError."""
    if _read(folder / STATE, "none") is None:
        _write(folder / STATE, "none", "", {})


def static(
    machine: Machine, named: frozenset[int], amount: float, options: PolicyOptions, folder: Path
) -> CpuPool:
    """The pool of a node; ``amount``: how much of its processors is reserved, if none are named. Raises ValueError."""
    count = math.ceil(amount)
    if not named and count <= 0:
        raise ValueError(
            "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero; "
            "give --reserved-cpus, --kube-reserved or --system-reserved"
        )
    pool = CpuPool(machine, named, options, folder / STATE)
    if not named:
        pool.reserved = pool._take(choice.numbers(machine), min(count, len(machine)))
    if not pool.reserved <= choice.numbers(machine) or len(pool.reserved) < (0 if named else count):
        kept = choice.listed(pool.reserved & choice.numbers(machine))
        size = len(named) or count
        raise ValueError(
            f"[cpumanager] unable to reserve the required amount of CPUs (size of {kept} did not equal {size})"
        )
    pool.load()
    return pool
