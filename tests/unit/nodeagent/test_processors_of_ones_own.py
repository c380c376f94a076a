"""The static policy of the CPU manager: which processors, to whom, in which words when there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.nodeagent.cpus import choice, pool
from bamikube.nodeagent.cpus.choice import Processor
from bamikube.nodeagent.cpus.pool import CpuPool
from bamikube.nodeagent.node.reservations import Reservation
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.settings import cpu_pool, reconcile_period

JSON = dict[str, Any]
PLAIN = tuple(Processor(n, n, 0) for n in range(4))
# Two sockets of two cores with two threads: core 0 of socket 0 is processors 0 and 4, as machines number them.
LARGE = tuple(Processor(n, n % 2, (n % 4) // 2) for n in range(8))
UID = "u"


def pod(uid: str, *amounts: str, init: tuple[str, ...] = (), **spec: Any) -> JSON:
    def container(name: str, cpu: str) -> JSON:
        asked = {"cpu": cpu, "memory": "1Mi"}
        return {"name": name, "resources": {"limits": asked, "requests": asked}}

    made = {
        "containers": [container(f"c{n}", cpu) for n, cpu in enumerate(amounts)],
        "initContainers": [container(f"i{n}", cpu) for n, cpu in enumerate(init)],
    }
    return {"metadata": {"name": uid, "uid": uid}, "spec": made | spec}


def fresh(folder: Path, machine: choice.Machine = PLAIN, full: bool = False) -> CpuPool:
    return pool.static(machine, frozenset({0}), 0, full, folder)


@pytest.mark.parametrize(
    ("free", "count", "expected"),
    [
        (range(8), 4, "0-1,4-5"),  # a whole socket
        (range(8), 2, "0,4"),  # a whole core
        (range(8), 1, "0"),
        (range(1, 8), 1, "4"),  # beside the thread that is gone
        (range(1, 8), 2, "1,5"),
        (range(1, 8), 5, "2-4,6-7"),
        (range(8), 8, "0-7"),
    ],
)
def test_the_closest_ones_are_taken(free: range, count: int, expected: str) -> None:
    assert choice.listed(choice.take(LARGE, set(free), count)) == expected


@given(st.sets(st.integers(0, 7)), st.integers(0, 8))
def test_as_many_as_asked_and_only_free_ones(free: set[int], count: int) -> None:
    count = min(count, len(free))
    taken = choice.take(LARGE, free, count)
    assert len(taken) == count and taken <= free
    whole = sum({n, n + 4} <= taken for n in range(4))
    could = sum({n, n + 4} <= free for n in range(4))
    assert whole >= min(could, count // 2) or whole >= count // 2


def test_the_machine_is_read_from_the_kernel(tmp_path: Path) -> None:
    for one in (Processor(0, 0, 0), Processor(1, 0, 0), Processor(10, 1, 0)):
        folder = tmp_path / f"cpu{one.number}/topology"
        folder.mkdir(parents=True)
        (folder / "core_id").write_text(f"{one.core}\n")
        (folder / "physical_package_id").write_text(f"{one.socket}\n")
    (tmp_path / "cpu2").mkdir()  # switched off
    found = choice.machine(tmp_path)
    assert choice.listed(one.number for one in found) == "0-1,10"
    assert choice.threads(LARGE) == 2 and choice.threads(PLAIN) == 1


def test_whole_processors_of_guaranteed_pods_only(tmp_path: Path) -> None:
    made = fresh(tmp_path)
    assert made.admit(pod("a", "2", "500m"), []) is None
    assert (made.of("a", "c0"), made.of("a", "c1"), made.of("other", "x")) == ("1-2", "0,3", "0,3")
    loose = pod("b", "1")
    loose["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "500m"}
    assert made.admit(loose, [pod("a")]) is None and made.of("b", "c0") == "0,3"
    whole = {"limits": {"cpu": "1", "memory": "1Mi"}}
    assert made.admit(pod("w", "1", resources=whole), [pod("a")]) is None
    assert made.of("w", "c0") == "0,3"
    refusal = made.admit(pod("c", "2"), [pod("a")])
    text = "not enough cpus available to satisfy request: requested=2, available=1"
    assert refusal == (
        "UnexpectedAdmissionError",
        f"Allocate failed due to {text}, which is unexpected",
    )
    assert made.admit(pod("c", "2"), []) is None  # a has gone
    assert made.of("c", "c0") == "1-2"


def test_what_init_containers_had_the_others_may_have(tmp_path: Path) -> None:
    made = fresh(tmp_path)
    assert made.admit(pod("a", "2", "1", init=("3", "1")), []) is None
    assert (made.of("a", "i0"), made.of("a", "i1")) == ("1-3", "1")
    assert (made.of("a", "c0"), made.of("a", "c1")) == ("1-2", "3")
    side = pod("b", "2", init=("2",))
    side["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    assert made.admit(side, []) is not None  # a sidecar keeps what it has


def test_whole_cores_only(tmp_path: Path) -> None:
    made = pool.static(LARGE, frozenset({0, 4}), 0, True, tmp_path)
    text = "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    assert made.admit(pod("a", "3"), []) == ("SMTAlignmentError", text)
    assert made.admit(pod("a", "2"), []) is None and made.of("a", "c0") == "1,5"


def test_assignments_outlive_the_node_agent(tmp_path: Path) -> None:
    made = fresh(tmp_path)
    made.admit(pod("a", "1"), [])
    state = json.loads((tmp_path / "cpu_manager_state").read_text())
    assert state == {"policyName": "static", "defaultCpuSet": "0,2-3", "entries": {"a": {"c0": "1"}}}
    again = fresh(tmp_path)
    assert again.of("a", "c0") == "1" and again.admit(pod("a", "1"), []) is None
    with pytest.raises(ValueError, match="processors are gone or reserved, please drain this node"):
        pool.static(PLAIN, frozenset({1}), 0, False, tmp_path)
    (tmp_path / "cpu_manager_state").write_text("[]")
    with pytest.raises(ValueError, match="could not restore state from checkpoint"):
        fresh(tmp_path)


def test_flags_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"requires systemreserved.cpu \+ kubereserved.cpu to be greater"):
        pool.static(PLAIN, frozenset(), 0, False, tmp_path)
    assert pool.static(PLAIN, frozenset(), 1.5, False, tmp_path).reserved == {0, 1}
    assert pool.options("static", {"full-pcpus-only": "true"}) and not pool.options("static", {})
    for policy, given_ in (
        ("none", {"full-pcpus-only": "true"}),
        ("static", {"x": "true"}),
        ("static", {"full-pcpus-only": "maybe"}),
    ):
        with pytest.raises(ValueError, match="--cpu-manager-policy-options"):
            pool.options(policy, given_)


def test_the_gate_refuses_whom_there_is_no_processor_for(tmp_path: Path) -> None:
    roomy = {"status": {"allocatable": {"cpu": "9", "memory": "9Gi", "pods": "9"}}, "metadata": {"name": "n"}}

    async def fresh_node() -> JSON:
        return roomy

    gate = Gate(lambda: roomy, fresh_node, cpus=fresh(tmp_path).admit)
    assert gate.judge(pod("a", "2"), []).refusal is None
    refusal = gate.judge(pod("b", "2"), [pod("a", "2")]).refusal
    assert refusal is not None and refusal[0] == "UnexpectedAdmissionError"
    assert gate.judge(pod("c", "1"), [pod("a", "2")]).refusal is None
    (tmp_path / "other").mkdir()
    given_ = NodeAgentOptions(cpu_manager_policy="static", reserved_cpus="0")
    made = cpu_pool(given_, Reservation({}, {}), tmp_path / "other")
    assert made is not None and made.reserved == {0}
    assert cpu_pool(NodeAgentOptions(), Reservation({}, {}), tmp_path) is None
    with pytest.raises(ValueError, match="--cpu-manager-reconcile-period"):
        reconcile_period(NodeAgentOptions(cpu_manager_reconcile_period="0s"))
