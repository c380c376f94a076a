"""Who has memory of which NUMA nodes: the static policy of the memory manager. Pure but for its file.

Every container of a guaranteed pod is given its memory and huge pages of one set of nodes, as few as can hold them. A node is either
used alone or always together with the same others (its *cells*): otherwise what one pod may use up could be promised to another.
What an init container has had goes to the containers after it that are given of the same nodes. The kernel is told the nodes
(``cpuset.mems``); how much of each is only counted here.

Worked example: two nodes of 4 GiB, and a container that wants 6: it is given both, and no other container can be given of one alone until
it has gone.

Source: "Control Memory Management Policies on a Node".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bamikube.api.qos import qos_class
from bamikube.nodeagent import checkpoint
from bamikube.nodeagent.numa import figures, hints
from bamikube.nodeagent.numa.hints import Hint, Hints, Nodes
from bamikube.nodeagent.numa.nodes import NumaNodes
from bamikube.nodeagent.numa.state import Block, NodeState, State, Table, printed, shown, sizes
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.admission import Refused
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number

STATE, POLICY = "memory_manager_state", "Static"
MEMORY = "memory"
_HUGE = "hugepages-"
Amounts = dict[str, int]  # bytes by resource


def asked(pod: JSON, spec: JSON) -> Amounts:
    """What a container is to be given of its own nodes."""
    if pod["spec"].get("resources") or qos_class(pod["spec"]) != "Guaranteed":
        return {}
    resources = spec.get("resources") or {}
    requests = (resources.get("limits") or {}) | (resources.get("requests") or {})
    return {
        name: int(number(amount))
        for name, amount in requests.items()
        if name == MEMORY or name.startswith(_HUGE)
    }


@dataclass(slots=True)
class MemoryBook:
    """``reserved``: bytes of each node that are nobody's; ``given``: the blocks of each container, by uid and name; ``whole``
    says whether all pods are known that have a place on the node."""

    nodes: NumaNodes
    reserved: Mapping[int, Amounts]
    file: Path
    given: dict[str, dict[str, tuple[Block, ...]]] = field(default_factory=dict)
    whole: Callable[[], bool] = lambda: True

    # -- what there is -------------------------------------------------------------------------------------------

    def empty(self) -> State:
        """The machine when nobody has anything."""
        found: State = {}
        for node in self.nodes:
            kept = self.reserved.get(node.number, {})
            tables = {
                name: Table(size, kept.get(name, 0), size - kept.get(name, 0))
                for name, size in node.huge_pages
            }
            left = node.memory - kept.get(MEMORY, 0) - sum(size for _, size in node.huge_pages)
            tables[MEMORY] = Table(node.memory, kept.get(MEMORY, 0), left)
            found[node.number] = NodeState(tables, (node.number,))
        return found

    def state(self) -> State:
        """The machine as it is given away."""
        found = self.empty()
        for mine in self.given.values():
            for block in (block for blocks in mine.values() for block in blocks):
                left = block.size
                for node in block.nodes:
                    here = found[node]
                    here.blocks, here.cells = here.blocks + 1, block.nodes
                    part = min(left, here.tables[block.resource].free)
                    here.tables[block.resource].given += part
                    left -= part
        return found

    def allocatable(self) -> list[Block]:
        """All that somebody may be given."""
        return [
            Block((node,), name, table.allocatable)
            for node, here in self.empty().items()
            for name, table in here.tables.items()
            if table.allocatable > 0
        ]

    def of(self, uid: str, name: str) -> Nodes:
        """The nodes that a container has its memory of; none: of all."""
        return frozenset(node for block in self.given.get(uid, {}).get(name, ()) for node in block.nodes)

    # -- hints ---------------------------------------------------------------------------------------------------

    def hints(self, pod: JSON, spec: JSON) -> Hints:
        """Of which nodes a container could be given its memory."""
        wanted = asked(pod, spec)
        if not wanted:
            return {}
        has = self.given.get(facts.uid(pod), {}).get(spec["name"])
        return _same(has, wanted) if has is not None else self._possible(pod, wanted)

    def pod_hints(self, pod: JSON) -> Hints:
        """Of which nodes a pod could be given its memory as a whole."""
        wanted = together(pod)
        if not wanted:
            return {}
        for has in self.given.get(facts.uid(pod), {}).values():
            return _same(has, wanted)
        return self._possible(pod, wanted)

    def _possible(self, pod: JSON, wanted: Amounts) -> Hints:
        state = self.state()
        fewest, found = len(state), list[Nodes]()
        for some in hints.sets(state):
            here = [state[node] for node in some]
            if any(_sum(here, name, "allocatable") < size for name, size in wanted.items()):
                continue
            fewest = min(fewest, len(some))
            if not _compatible(here, some):
                continue
            again = {block.resource: block.size for block in self._reusable(pod, some)}
            if all(_sum(here, name, "free") + again.get(name, 0) >= size for name, size in wanted.items()):
                found.append(some)
        made = [Hint(some, len(some) == fewest) for some in found]
        return {name: list(made) for name in wanted}

    def _reusable(self, pod: JSON, some: Nodes, before: str = "") -> list[Block]:
        """What plain init containers of a pod were given of exactly these nodes, by resource."""
        sums: Amounts = {}
        mine = self.given.get(facts.uid(pod), {})
        for spec in facts.init_containers(pod):
            if spec["name"] == before:
                break
            for block in mine.get(spec["name"], ()) if not facts.is_sidecar(spec) else ():
                if frozenset(block.nodes) == some:
                    sums[block.resource] = sums.get(block.resource, 0) + block.size
        return [Block(tuple(sorted(some)), name, size) for name, size in sums.items()]

    # -- giving --------------------------------------------------------------------------------------------------

    def give(self, pod: JSON, spec: JSON, near: Hint | None = None) -> None:
        """Give a container its memory, of the nodes ``near`` names if it names some. Raises Refused."""
        uid, wanted = facts.uid(pod), asked(pod, spec)
        if not wanted:
            return
        figures.MEMORY_PINNING.of().inc()
        if spec["name"] in self.given.get(uid, {}):
            return
        try:
            chosen = self._choose(pod, wanted, near)
        except Refused:
            figures.MEMORY_PINNING_ERRORS.of().inc()
            raise
        nodes = tuple(sorted(chosen))
        blocks = tuple(Block(nodes, name, size) for name, size in wanted.items())
        self._hand_on(pod, spec, blocks)
        self.given.setdefault(uid, {})[spec["name"]] = blocks
        self._save()

    def _choose(self, pod: JSON, wanted: Amounts, near: Hint | None) -> Nodes:
        found = near
        if found is None or found.nodes is None:
            could = self._possible(pod, wanted)
            default = hints.best(could.get(MEMORY) or ())
            if default is None:
                raise Refused(
                    "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
                )
            if found is not None and found.preferred and not default.preferred:
                raise Refused("[memorymanager] failed to find the default preferred hint")
            found = default
        state, nodes = self.state(), found.nodes or Nodes()
        here = [state[node] for node in nodes]
        if any(_sum(here, name, "free") < size for name, size in wanted.items()):
            wider = [
                h for h in self._possible(pod, wanted).get(MEMORY) or () if nodes <= (h.nodes or Nodes())
            ]
            extended = hints.best(wider)
            if extended is None or extended.nodes is None:
                raise Refused("[memorymanager] failed to find NUMA nodes to extend the current topology hint")
            if found.preferred and not extended.preferred:
                raise Refused("[memorymanager] failed to find the extended preferred hint")
            nodes = extended.nodes
        if len(nodes) > 1 and not _compatible([state[node] for node in nodes], nodes):
            raise Refused("[memorymanager] preferred hint violates NUMA node allocation")
        return nodes

    def _hand_on(self, pod: JSON, spec: JSON, blocks: Iterable[Block]) -> None:
        """Take from init containers that have ended by then what this one is given in their place."""
        mine = self.given.get(facts.uid(pod), {})
        for block in blocks:
            left = block.size
            for before in facts.init_containers(pod):
                if before["name"] == spec["name"]:
                    break
                if facts.is_sidecar(before) or before["name"] not in mine:
                    continue
                kept = []
                for had in mine[before["name"]]:
                    same = (had.resource, set(had.nodes)) == (block.resource, set(block.nodes))
                    taken = min(left, had.size) if same else 0
                    left -= taken
                    kept.append(replace(had, size=had.size - taken))
                mine[before["name"]] = tuple(kept)

    # -- taking back ---------------------------------------------------------------------------------------------

    def keep(self, uids: Collection[str]) -> None:
        """Take back what pods have that are not among these, once all pods are known."""
        if (gone := self.given.keys() - set(uids)) and self.whole():
            for uid in gone:
                del self.given[uid]
            self._save()

    def take_back(self, uid: str) -> None:
        """From a pod that was refused."""
        if self.given.pop(uid, None) is not None:
            self._save()

    # -- what outlives the node agent ----------------------------------------------------------------------------

    def _save(self) -> None:
        checkpoint.write(self.file, shown(POLICY, self.state(), self.given), printed)

    def load(self) -> None:
        """Recall what was given. Raises ValueError for a file that is not of this machine and its reservation."""
        state = _read(self.file, POLICY)
        try:
            if state is not None and (state.get("machineState") or state.get("entries")):
                self._restore(state)
        except ValueError as error:
            raise ValueError(f"start memory manager error: {error}, {_advice(self.file)}") from error
        self._save()

    def _restore(self, state: JSON) -> None:
        if not state.get("machineState"):
            raise ValueError("[memorymanager] machine state can not be empty when it has memory assignments")
        empty = self.empty()
        for uid, mine in (state.get("entries") or {}).items():
            for name, blocks in mine.items():
                for block in blocks:
                    where = f"[memorymanager] (pod: {uid}, container: {name}) the memory assignment uses"
                    for node in block["numaAffinity"]:
                        if node not in empty:
                            raise ValueError(f"{where} the NUMA that does not exist")
                        if block["type"] not in empty[node].tables:
                            raise ValueError(f"{where} memory resource that does not exist")
                made = (Block(tuple(b["numaAffinity"]), b["type"], b["size"]) for b in blocks)
                self.given.setdefault(uid, {})[name] = tuple(made)
        if sizes(state["machineState"]) != sizes(shown(POLICY, self.state(), {})["machineState"]):
            raise ValueError("[memorymanager] the expected machine state is different from the real one")


def together(pod: JSON) -> Amounts:
    """What a pod needs at one time: its containers and sidecars, or an init container beside the sidecars before it."""
    sidecars: Amounts = {}
    most: Amounts = {}
    for spec in facts.init_containers(pod):
        for name, size in asked(pod, spec).items():
            if facts.is_sidecar(spec):
                sidecars[name] = sidecars.get(name, 0) + size
            else:
                most[name] = max(most.get(name, 0), sidecars.get(name, 0) + size)
    found: Amounts = {}
    for spec in facts.containers(pod):
        for name, size in asked(pod, spec).items():
            found[name] = found.get(name, 0) + size
    return {name: max(size + sidecars.get(name, 0), most.get(name, 0)) for name, size in found.items()}


def _sum(here: Iterable[NodeState], name: str, what: str) -> int:
    tables = (node.tables.get(name) for node in here)
    return sum(getattr(table, what) for table in tables if table is not None)


def _compatible(here: Iterable[NodeState], some: Nodes) -> bool:
    """Whether nodes may be used together, or one alone, beside what they are used for already."""
    for node in here:
        if len(some) == 1 and len(node.cells) > 1:
            return False
        if len(some) > 1 and node.blocks and (len(node.cells) == 1 or set(node.cells) != some):
            return False
    return True


def _same(has: Iterable[Block], wanted: Amounts) -> Hints:
    """Hints for a container that has its memory already; none for one that has other memory than it wants."""
    blocks = list(has)
    if {block.resource: block.size for block in blocks} != wanted:
        return {}
    return {block.resource: [Hint(frozenset(block.nodes), True)] for block in blocks}


def _advice(file: Path) -> str:
    return f'please drain this node and delete the memory manager checkpoint file "{file}" before restarting Kubelet'


def _read(file: Path, policy: str) -> JSON | None:
    try:
        return checkpoint.read(file, policy, printed, "[memorymanager] ")
    except ValueError as error:
        raise ValueError(f"could not restore state from checkpoint: {error}, {_advice(file)}") from error


def nobody(folder: Path) -> None:
    """The policy ``None`` is noted, too: another one is only begun on a node that was drained. Raises ValueError."""
    if _read(folder / STATE, "None") is None:
        checkpoint.write(folder / STATE, {"policyName": "None", "machineState": {}}, printed)
