"""What is given away of each NUMA node, and the kubelet's form of it in ``memory_manager_state``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bamikube.nodeagent.checkpoint import printed_map
from bamikube.nodeagent.pod.facts import JSON


@dataclass(frozen=True, slots=True)
class Block:
    """So many bytes (of memory, or of huge pages of a size) of these nodes."""

    nodes: tuple[int, ...]
    resource: str
    size: int


@dataclass(slots=True)
class Table:
    """One kind of memory of one node, in bytes."""

    total: int
    reserved_for_system: int
    allocatable: int
    given: int = 0

    @property
    def free(self) -> int:
        return self.allocatable - self.given


@dataclass(slots=True)
class NodeState:
    """``blocks``: how many containers' blocks are of this node; ``cells``: the nodes it is used together with, itself included."""

    tables: dict[str, Table]
    cells: tuple[int, ...]
    blocks: int = 0


State = dict[int, NodeState]


def shown(policy: str, state: State, given: Mapping[str, Mapping[str, Iterable[Block]]]) -> JSON:
    machine = {
        str(node): {
            "numberOfAssignments": here.blocks,
            "memoryMap": {
                name: {
                    "total": table.total,
                    "systemReserved": table.reserved_for_system,
                    "allocatable": table.allocatable,
                    "reserved": table.given,
                    "free": table.free,
                }
                for name, table in sorted(here.tables.items())
            },
            "cells": list(here.cells),
        }
        for node, here in state.items()
    }
    entries = {
        uid: {
            name: [{"numaAffinity": list(b.nodes), "type": b.resource, "size": b.size} for b in blocks]
            for name, blocks in mine.items()
        }
        for uid, mine in given.items()
    }
    return {"policyName": policy, "machineState": machine} | ({"entries": entries} if entries else {})


def sizes(machine: JSON) -> dict[str, Any]:
    """Of a machine's state what has to be the same when it is read again: sizes, and who uses which nodes together."""

    def used(node: JSON, name: str) -> int:
        return sum(machine[str(cell)]["memoryMap"][name]["reserved"] for cell in node["cells"])

    try:
        return {
            number: (
                node["numberOfAssignments"],
                sorted(node["cells"]),
                {
                    name: (t["total"], t["systemReserved"], t["allocatable"], used(node, name))
                    for name, t in node["memoryMap"].items()
                },
            )
            for number, node in machine.items()
        }
    except KeyError:
        return {}


def printed(state: Mapping[str, Any]) -> str:
    def table(given: Mapping[str, int]) -> str:
        return (
            f"<*>{{TotalMemSize:(uint64){given['total']} SystemReserved:(uint64){given['systemReserved']} "
            f"Allocatable:(uint64){given['allocatable']} Reserved:(uint64){given['reserved']} Free:(uint64){given['free']}}}"
        )

    def node(given: Mapping[str, Any]) -> str:
        tables = {name: table(one) for name, one in given["memoryMap"].items()}
        return (
            f"<*>{{NumberOfAssignments:(int){given['numberOfAssignments']} "
            f"MemoryMap:(map[v1.ResourceName]*state.MemoryTable){printed_map(tables)} Cells:([]int){numbers(given['cells'])}}}"
        )

    def numbers(given: Iterable[int]) -> str:
        return f"[{' '.join(map(str, given))}]"

    def block(given: Mapping[str, Any]) -> str:
        nodes = numbers(given["numaAffinity"])
        return f"{{NUMAAffinity:([]int){nodes} Type:(v1.ResourceName){given['type']} Size:(uint64){given['size']}}}"

    machine = sorted(state["machineState"].items(), key=lambda item: int(item[0]))
    entries = {
        uid: printed_map({name: f"[{' '.join(map(block, blocks))}]" for name, blocks in mine.items()})
        for uid, mine in (state.get("entries") or {}).items()
    }
    return (
        f"(*state.MemoryManagerCheckpoint){{PolicyName:(string){state['policyName']} "
        f"MachineState:(state.NUMANodeMap)map[{' '.join(f'{key}:{node(given)}' for key, given in machine)}] "
        f"Entries:(state.ContainerMemoryAssignments){printed_map(entries)} Checksum:(checksum.Checksum)0}}"
    )
