"""The static policy of the memory manager: memory of which NUMA nodes, to whom, in which words when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.api.quantity import Quantity
from bamikube.nodeagent import checkpoint
from bamikube.nodeagent.cpus import choice
from bamikube.nodeagent.node.reservations import Reservation
from bamikube.nodeagent.numa import memory, nodes, reserved, state
from bamikube.nodeagent.numa.hints import Hint
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.numa.memory import MemoryBook
from bamikube.nodeagent.numa.nodes import NumaNode
from bamikube.nodeagent.numa.state import Block
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.admission import Refused
from bamikube.nodeagent.settings import memory_book

JSON = dict[str, Any]
GIB = 2**30
TWO = (NumaNode(0, 5 * GIB, (("hugepages-2Mi", GIB),)), NumaNode(1, 5 * GIB, (("hugepages-2Mi", GIB),)))


def pod(uid: str, *amounts: int, init: tuple[int, ...] = (), sidecar: bool = False, pages: int = 0) -> JSON:
    """Containers that ask for so many GiB each."""

    def container(name: str, amount: int, **more: Any) -> JSON:
        asked = {"cpu": "1", "memory": f"{amount}Gi"} | ({"hugepages-2Mi": f"{pages}Mi"} if pages else {})
        return {"name": name, "resources": {"limits": asked, "requests": asked}} | more

    more = {"restartPolicy": "Always"} if sidecar else {}
    return {
        "metadata": {"name": uid, "uid": uid},
        "spec": {
            "containers": [container(f"c{n}", amount) for n, amount in enumerate(amounts)],
            "initContainers": [container(f"i{n}", amount, **more) for n, amount in enumerate(init)],
        },
    }


def book(folder: Path, machine: nodes.NumaNodes = TWO) -> MemoryBook:
    made = MemoryBook(machine, {0: {"memory": GIB}}, folder / "memory_manager_state")
    made.load()
    return made


def admit(made: MemoryBook, given_: JSON, *others: str) -> str:
    refusal = Managers(memory=made).admit(given_, [pod(uid) for uid in others])
    return "" if refusal is None else ": ".join(refusal)


def free(made: MemoryBook) -> list[int]:
    """GiB of memory."""
    return [node.tables["memory"].free // GIB for node in made.state().values()]


def test_as_few_nodes_as_can_hold_it(tmp_path: Path) -> None:
    made = book(tmp_path)
    assert free(made) == [3, 4]  # without what is reserved, and without the huge pages
    assert admit(made, pod("a", 2)) == "" and made.of("a", "c0") == {0}
    assert admit(made, pod("b", 2), "a") == "" and made.of("b", "c0") == {1}
    text = "no NUMA nodes with enough memory is available, which is unexpected"
    words = "UnexpectedAdmissionError: Allocate failed due to [memorymanager] failed to get the default NUMA affinity, "
    assert admit(made, pod("c", 4), "a", "b") == words + text
    assert free(made) == [1, 2] and "c" not in made.given
    assert admit(made, pod("c", 6)) == ""  # a and b have gone
    assert made.of("c", "c0") == {0, 1} and free(made) == [0, 1]
    assert admit(made, pod("d", 1), "c") == ""  # nodes that are used together are not used alone
    assert made.of("d", "c0") == {0, 1} and free(made) == [0, 0]
    assert Managers(memory=made).place("c", "c0").memories == "0-1"
    assert Managers(memory=made).place("x", "c0").memories == ""


def test_only_guaranteed_pods_have_nodes(tmp_path: Path) -> None:
    made = book(tmp_path)
    loose = pod("a", 1)
    loose["spec"]["containers"][0]["resources"]["requests"] = {"memory": "512Mi"}
    assert admit(made, loose) == "" and not made.given
    whole = pod("b", 1)
    whole["spec"]["resources"] = {"limits": {"cpu": "1", "memory": "1Gi"}}
    assert admit(made, whole) == "" and not made.given


def test_containers_after_init_containers_have_what_was_theirs(tmp_path: Path) -> None:
    made = book(tmp_path)
    assert admit(made, pod("a", 1, 1, init=(3, 2))) == ""
    sizes = {name: [b.size // GIB for b in blocks] for name, blocks in made.given["a"].items()}
    assert free(made) == [0, 4]  # three in all
    assert sum(size for each in sizes.values() for size in each) == 3 and sizes["c0"] == [1] == sizes["c1"]
    assert admit(made, pod("b", 2, init=(1,), sidecar=True)) == "" and sum(free(made)) == 4


def test_huge_pages_are_of_the_same_nodes(tmp_path: Path) -> None:
    made = book(tmp_path)
    assert admit(made, pod("a", 1, pages=1024)) == "" and made.of("a", "c0") == {0}
    assert admit(made, pod("b", 1, pages=512), "a") == "" and made.of("b", "c0") == {1}
    assert "failed to get the default NUMA affinity" in admit(made, pod("c", 1, pages=1024), "a", "b")


def test_nodes_that_were_decided_on(tmp_path: Path) -> None:
    made, spec = book(tmp_path), pod("a", 2)["spec"]["containers"][0]
    made.give(pod("a", 2), spec, Hint(frozenset({1}), True))
    assert made.of("a", "c0") == {1}
    made.give(pod("b", 3), pod("b", 3)["spec"]["containers"][0], Hint(None, False))
    assert made.of("b", "c0") == {0}
    wants = pod("c", 4)
    with pytest.raises(Refused, match=r"^\[memorymanager\] failed to find NUMA nodes to extend the current"):
        made.give(wants, wants["spec"]["containers"][0], Hint(frozenset({1}), True))
    wants = pod("c", 1)
    with pytest.raises(Refused, match="preferred hint violates NUMA node allocation"):
        made.give(wants, wants["spec"]["containers"][0], Hint(frozenset({0, 1}), True))
    fresh = MemoryBook(TWO, {}, tmp_path / "other")
    wants = pod("d", 6)
    fresh.give(wants, wants["spec"]["containers"][0], Hint(frozenset({1}), False))
    assert fresh.of("d", "c0") == {0, 1}  # a hint that is too narrow is widened


def test_what_was_given_outlives_the_node_agent(tmp_path: Path) -> None:
    made = book(tmp_path)
    admit(made, pod("a", 6))
    written = json.loads((tmp_path / "memory_manager_state").read_text())
    assert written["entries"] == {"a": {"c0": [{"numaAffinity": [0, 1], "type": "memory", "size": 6 * GIB}]}}
    assert written["machineState"]["0"]["memoryMap"]["memory"] == {
        "total": 5 * GIB,
        "systemReserved": GIB,
        "allocatable": 3 * GIB,
        "reserved": 3 * GIB,
        "free": 0,
    }
    again = book(tmp_path)
    assert again.given == made.given and again.state() == made.state()
    assert admit(again, pod("a", 6)) == "" and free(again) == [0, 1]


def entries(node: int = 0, resource: str = "memory") -> JSON:
    machine = state.shown("Static", MemoryBook(TWO, {0: {"memory": GIB}}, Path("x")).empty(), {})
    return machine | {"entries": {"a": {"c": [{"numaAffinity": [node], "type": resource, "size": 1}]}}}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ([], "could not restore state from checkpoint: checkpoint is corrupted"),
        (entries() | {"checksum": 7}, "could not restore state from checkpoint: checkpoint is corrupted"),
        (
            {"policyName": "None", "machineState": {}, "checksum": 4236770233},
            'checkpoint: [memorymanager] configured policy "Static" differs from state checkpoint policy "None"',
        ),
        (
            entries(7),
            "start memory manager error: [memorymanager] (pod: a, container: c) the memory assignment uses the NUMA that does not",
        ),
        (
            entries(0, "hugepages-1Gi"),
            "(pod: a, container: c) the memory assignment uses memory resource that does not exist",
        ),
        (entries(), "[memorymanager] the expected machine state is different from the real one"),
        (
            entries() | {"machineState": {}},
            "[memorymanager] machine state can not be empty when it has memory assignments",
        ),
    ],
)
def test_a_state_that_is_not_of_this_node_is_refused(tmp_path: Path, written: Any, words: str) -> None:
    file = tmp_path / "memory_manager_state"
    file.write_text(json.dumps(written))
    with pytest.raises(ValueError, match="manager") as caught:
        book(tmp_path)
    advice = f'please drain this node and delete the memory manager checkpoint file "{file}" before restarting Kubelet'
    assert words in str(caught.value) and str(caught.value).endswith(advice)


def test_checksums_are_those_of_the_kubelet() -> None:
    table = {"total": 2048, "systemReserved": 512, "allocatable": 1536, "reserved": 512, "free": 1024}
    written = {
        "policyName": "static",
        "machineState": {"0": {"numberOfAssignments": 0, "memoryMap": {"memory": table}, "cells": []}},
        "entries": {"pod": {"container1": [{"numaAffinity": [0], "type": "memory", "size": 512}]}},
    }
    assert checkpoint.checksum(state.printed(written)) == 4215593881
    nothing = {"policyName": "None", "machineState": {}}
    assert checkpoint.checksum(state.printed(nothing)) == 4236770233


def test_what_is_reserved_of_which_node() -> None:
    found = reserved.parse(["0:memory=1Gi", "hugepages-2Mi=2Gi", "1:memory=512Mi"])
    assert {n: {k: str(v) for k, v in one.items()} for n, one in found.items()} == {
        0: {"memory": "1Gi", "hugepages-2Mi": "2Gi"},
        1: {"memory": "512Mi"},
    }
    assert reserved.parse(["0:memory=1Gi;1:memory=512Mi"]).keys() == {0, 1}
    kept = {"memory": Quantity.parse("1536Mi"), "cpu": Quantity.parse("1")}
    parts = reserved.parse(["0:memory=1Gi;1:memory=512Mi"])
    assert reserved.of_nodes(TWO, parts, kept) == {0: {"memory": GIB}, 1: {"memory": GIB // 2}}


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (["x:memory=1Gi"], "failed to convert the NUMA node ID, exp: 0, got x"),
        (["memory=1Gi"], "the reservation has incorrect format, expected numaNodeID:type=quantity"),
        (["0:memory"], "the reservation has incorrect format, expected numaNodeID:type=quantity"),
        (["0:cpu=1"], 'the limit type "cpu" for NUMA node 0 is not supported'),
        (["0:memory=much"], "failed to parse the quantity"),
        (["0:memory=0"], 'reserved memory may not be zero for NUMA node 0 and resource "memory"'),
        (["0:memory=1Gi", "0:memory=1Gi"], "a duplicate value for NUMA node 0"),
        (["7:memory=1Gi"], "references a NUMA node 7 that does not exist on this machine"),
        (
            ["0:memory=2Gi"],
            'total amount "2Gi" of type "memory" is not equal to the value "1Gi" determined by',
        ),
        ([], 'the total amount "0" of type "memory" is not equal to the value "1Gi" determined by'),
        (["0:memory=1Gi,hugepages-2Mi=2Mi"], 'total amount "2Mi" of type "hugepages-2Mi" is not equal to'),
    ],
)
def test_reservations_that_cannot_be(given_: list[str], words: str) -> None:
    with pytest.raises(ValueError, match="--reserved-memory: ") as caught:
        reserved.of_nodes(TWO, reserved.parse(given_), {"memory": Quantity.parse("1Gi")})
    assert words in str(caught.value)


def test_flags_to_books(tmp_path: Path) -> None:
    assert memory_book(NodeAgentOptions(), Reservation({}, {}), tmp_path) is None
    file = tmp_path / "memory_manager_state"
    assert file.read_text() == '{"policyName":"None","machineState":{},"checksum":4236770233}'
    options = NodeAgentOptions(memory_manager_policy="Static", reserved_memory=["0:memory=1100Mi"])
    kept = Reservation({"memory": Quantity.parse("1Gi")}, {"memory": Quantity.parse("76Mi")})
    with pytest.raises(ValueError, match='configured policy "Static" differs from state checkpoint policy'):
        memory_book(options, kept, tmp_path)
    file.unlink()
    if len(nodes.nodes()) == 1:
        made = memory_book(options, kept, tmp_path)
        assert made is not None and made.empty()[0].tables["memory"].reserved_for_system == 1100 * 2**20
    much = {"memory": Quantity.parse("6Gi")}
    with pytest.raises(ValueError, match="NUMA node 0 has 5368709120 bytes of memory, which is less than"):
        reserved.of_nodes(TWO, reserved.parse(["0:memory=6Gi"]), much)
    with pytest.raises(ValueError, match="you should specify the system reserved memory"):
        reserved.of_nodes(TWO, {}, {})


def test_the_machine_is_read_from_the_kernel(tmp_path: Path) -> None:
    for number, far in ((0, "10 21"), (2, "21 10")):
        folder = tmp_path / f"node{number}"
        (folder / "hugepages/hugepages-2048kB").mkdir(parents=True)
        (folder / "hugepages/hugepages-2048kB/nr_hugepages").write_text("3\n")
        (folder / "meminfo").write_text(
            f"Node {number} MemTotal:        2048 kB\nNode {number} MemFree: 1 kB\n"
        )
        (folder / "distance").write_text(far + "\n")
    pages = (("hugepages-2Mi", 6 * 2**20),)
    first, second = nodes.nodes(tmp_path)
    assert first == NumaNode(0, 2**21, pages, ((0, 10), (2, 21))) and second.distance(0) == 21
    assert len(nodes.nodes(tmp_path / "none")) == 1
    here = {one.node for one in choice.machine()}
    assert here <= {one.number for one in nodes.nodes()}


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.lists(st.integers(1, 5), min_size=1, max_size=2), st.lists(st.integers(1, 5), max_size=2)
            ),
            st.integers(0, 9),
        ),
        max_size=14,
    )
)
def test_no_more_is_given_than_there_is(tmp_path_factory: pytest.TempPathFactory, story: list[Any]) -> None:
    """Pods come and go; after each step nothing is given twice, nodes are used alone or always together, and the file says so."""
    folder = tmp_path_factory.mktemp("numa")
    machine = tuple(NumaNode(n, 6 * GIB) for n in range(3))
    made, there = book(folder, machine), list[str]()
    for number, step in enumerate(story):
        if isinstance(step, int):
            there = [uid for n, uid in enumerate(there) if n % 10 != step]
            made.keep(there)
            continue
        uid = f"p{number}"
        refusal = admit(made, pod(uid, *step[0], init=tuple(step[1])), *there)
        assert not refusal or refusal.startswith("UnexpectedAdmissionError: Allocate failed due to [memory")
        there += [uid] if not refusal else []
        assert (uid in made.given) == (not refusal)
        groups = {block.nodes for mine in made.given.values() for blocks in mine.values() for block in blocks}
        for one in groups:
            assert all(one == other or not set(one) & set(other) for other in groups)
            blocks = [b for mine in made.given.values() for bs in mine.values() for b in bs if b.nodes == one]
            room = sum(made.empty()[node].tables["memory"].allocatable for node in one)
            assert sum(block.size for block in blocks) <= room
        assert all(table.free >= 0 for node in made.state().values() for table in node.tables.values())
        assert book(folder, machine).given == made.given


def test_what_monitors_are_told(tmp_path: Path) -> None:
    made = book(tmp_path)
    assert made.allocatable() == [
        Block((0,), "hugepages-2Mi", GIB),
        Block((0,), "memory", 3 * GIB),
        Block((1,), "hugepages-2Mi", GIB),
        Block((1,), "memory", 4 * GIB),
    ]
    assert Managers(memory=made).fixed() == {"memory": 'Memory Manager policy "Static"'}
    assert memory.asked(pod("a", 1), pod("a", 1)["spec"]["containers"][0]) == {"memory": GIB}
