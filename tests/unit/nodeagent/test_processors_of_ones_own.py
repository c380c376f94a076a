"""The static policy of the CPU manager: which processors, to whom, in which words when there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.nodeagent import checkpoint
from bamikube.nodeagent.cpus import choice, policy, pool
from bamikube.nodeagent.cpus.choice import Processor
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.cpus.pool import CpuPool
from bamikube.nodeagent.cpus.spread import spread
from bamikube.nodeagent.node.reservations import Reservation
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.pod.placing import Place, placed
from bamikube.nodeagent.runtime.port import Resources
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


def fresh(folder: Path, machine: choice.Machine = PLAIN, **options: bool) -> CpuPool:
    return pool.static(machine, frozenset({0}), 0, PolicyOptions(**options), folder)


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
    made = fresh(tmp_path, LARGE, full_cores=True)  # 4 is of the reserved core, and nobody's either
    text = "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    assert made.admit(pod("a", "3"), []) == ("SMTAlignmentError", text)
    assert made.admit(pod("a", "2"), []) is None and made.of("a", "c0") == "1,5"
    numbers = "available physical CPUs = 4, requested CPUs = 6, CPUs per core = 2"
    text = f"SMT Alignment Error: not enough free physical CPUs: {numbers}"
    assert made.admit(pod("b", "6"), [pod("a")]) == ("SMTAlignmentError", text)
    assert "b" not in made.assigned
    assert made.admit(pod("c", "2", "4"), [pod("a")]) is not None and made.assigned.keys() == {"a"}


def test_assignments_outlive_the_node_agent(tmp_path: Path) -> None:
    made = fresh(tmp_path)
    made.admit(pod("a", "1"), [])
    state = json.loads((tmp_path / "cpu_manager_state").read_text())
    assert state.pop("checksum") > 0
    assert state == {"policyName": "static", "defaultCpuSet": "0,2-3", "entries": {"a": {"c0": "1"}}}
    again = fresh(tmp_path)
    assert again.of("a", "c0") == "1" and again.admit(pod("a", "1"), []) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "could not restore state from checkpoint: checkpoint is corrupted"),
        ("{", "could not restore state from checkpoint: checkpoint is corrupted"),
        (
            '{"policyName":"static","defaultCpuSet":"0-3","checksum":7}',
            "could not restore state from checkpoint: checkpoint is corrupted",
        ),
        (
            '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}',
            'checkpoint: configured policy "static" differs from state checkpoint policy "none"',
        ),
        (
            '{"policyName":"static","defaultCpuSet":"1-3","entries":{"a":{"c":"0"}}}',
            'start cpu manager error: not all reserved cpus: "0" are present in defaultCpuSet: "1-3"',
        ),
        (
            '{"policyName":"static","defaultCpuSet":"0-3","entries":{"a":{"c":"3"}}}',
            'pod: a, container: c cpuset: "3" overlaps with default cpuset "0-3"',
        ),
        (
            '{"policyName":"static","defaultCpuSet":"0-1","entries":{"a":{"c":"2"}}}',
            'current set of available CPUs "0-3" doesn\'t match with CPUs in state "0-2"',
        ),
        (
            '{"policyName":"static","defaultCpuSet":"","entries":{"a":{"c":"2"}}}',
            "default cpuset cannot be empty",
        ),
    ],
)
def test_a_state_that_is_not_of_this_node_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "cpu_manager_state"
    file.write_text(text)
    with pytest.raises(ValueError, match="manager") as caught:
        fresh(tmp_path)
    advice = f'please drain this node and delete the CPU manager checkpoint file "{file}" before restarting Kubelet'
    assert words in str(caught.value) and str(caught.value).endswith(advice)


@pytest.mark.parametrize(  # as kubelets have written them
    ("text", "number"),
    [
        ('{"policyName":"none","defaultCpuSet":""', 1353318690),
        ('{"policyName":"static","defaultCpuSet":"0-63"', 1058907510),
        (
            '{"policyName":"static","defaultCpuSet":"0-1,6-11","entries":{"4aec46af-22b7-4e26-babb-d15383ac9151":{"mysqld":"2-3"},'
            '"60008d73-6f6f-4467-96c5-cd0a1eeadf23":{"mysqld2":"4-5"}}',
            2764424633,
        ),
    ],
)
def test_checksums_are_those_of_the_kubelet(text: str, number: int) -> None:
    assert checkpoint.checksum(pool._printed(json.loads(text + "}"))) == number


def test_policies_are_changed_on_a_drained_node_only(tmp_path: Path) -> None:
    pool.nobody(tmp_path)
    file = tmp_path / "cpu_manager_state"
    assert file.read_text() == '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}'
    pool.nobody(tmp_path)
    with pytest.raises(ValueError, match=r'configured policy "static" differs from .* "none", please drain'):
        fresh(tmp_path)
    file.unlink()
    fresh(tmp_path)
    with pytest.raises(ValueError, match=r'configured policy "none" differs from .* "static", please drain'):
        pool.nobody(tmp_path)


def test_nobody_but_the_system_runs_on_what_is_strictly_reserved(tmp_path: Path) -> None:
    made = fresh(tmp_path, strict=True)
    assert made.of("x", "y") == "1-3" and made.admit(pod("a", "2"), []) is None
    assert (made.of("a", "c0"), made.of("x", "y")) == ("1-2", "3")
    assert fresh(tmp_path, strict=True).of("a", "c0") == "1-2"
    with pytest.raises(ValueError, match="not all reserved cpus"):
        fresh(tmp_path)
    (tmp_path / "cpu_manager_state").write_text('{"policyName":"static","defaultCpuSet":"0-3"}')
    with pytest.raises(ValueError, match='some of strictly reserved cpus: "0" are present in defaultCpuSet'):
        fresh(tmp_path, strict=True)


def test_who_has_processors_for_himself_has_no_quota_on_them() -> None:
    resources = Resources(cpu_shares=2048, cpu_quota=200_000, cpu_period=100_000)
    found = placed(resources, Place("1-2", alone=True))
    assert (found.cpus, found.cpu_quota, found.cpu_shares) == ("1-2", -1, 2048)
    assert placed(resources, Place("0,3")).cpu_quota == 200_000


@pytest.mark.parametrize(
    ("wanted", "group", "expected"),
    [
        (4, 1, "0-3"),  # one node is enough
        (10, 1, "0-4,8-12"),
        (11, 1, "0-5,8-12"),
        (12, 2, "0-1,4-5,8-9,12-13,2-3,6-7"),
        (20, 1, "0-6,8-14,16-21"),
    ],
)
def test_evenly_over_numa_nodes(wanted: int, group: int, expected: str) -> None:
    machine = tuple(Processor(n, n // 2, n // 16, n // 8) for n in range(24))
    found = spread(machine, set(range(24)), wanted, group)
    assert len(found) == wanted
    nodes = [sum(n // 8 == node for n in found) for node in range(3)]
    used = [count for count in nodes if count]
    assert max(used) - min(used) <= group
    if group == 1:
        assert choice.listed(found) == expected


@given(st.sets(st.integers(0, 23)), st.integers(0, 24), st.booleans(), st.sampled_from([1, 2]))
def test_spread_or_packed_as_many_as_asked_for(free: set[int], count: int, cache: bool, group: int) -> None:
    machine = tuple(Processor(n, n // 2, n // 12, n // 6, n // 3) for n in range(24))
    count = min(count, len(free))
    for found in (
        spread(machine, free, count, group, cache),
        choice.take(machine, free, count, cache),
    ):
        assert len(found) == count and found <= free


def test_behind_one_cache_if_possible() -> None:
    machine = tuple(Processor(n, n, 0, 0, n // 4) for n in range(12))
    free = {1, 2, 3, 5, 6, 7, 8, 9, 10, 11}
    assert choice.listed(choice.take(machine, free, 3, by_cache=True)) == "1-3"
    assert choice.listed(choice.take(machine, free, 4, by_cache=True)) == "8-11"
    assert choice.listed(choice.take(machine, free, 7, by_cache=True)) == "1-3,8-11"
    assert choice.listed(choice.take(machine, free, 4)) == "1-3,5"


def test_threads_are_looked_for_where_least_is_free() -> None:
    free = {2, 3, 6, 7, 1, 5}  # all of socket 1, one core of socket 0
    assert choice.listed(choice.take(LARGE, free, 2)) == "1,5"
    assert choice.listed(choice.take(LARGE, free, 5)) == "1-3,6-7"


def test_flags_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"requires systemreserved.cpu \+ kubereserved.cpu to be greater"):
        pool.static(PLAIN, frozenset(), 0, PolicyOptions(), tmp_path)
    assert pool.static(PLAIN, frozenset(), 1.5, PolicyOptions(), tmp_path).reserved == {0, 1}
    with pytest.raises(
        ValueError, match=r"unable to reserve the required amount of CPUs \(size of 3 did not"
    ):
        pool.static(PLAIN, frozenset({3, 9}), 0, PolicyOptions(), tmp_path)
    assert policy.options("static", {"full-pcpus-only": "true"}).full_cores
    assert policy.options("static", {"strict-cpu-reservation": "T"}) == PolicyOptions(strict=True)
    for name, given_, words in (
        ("none", {"full-pcpus-only": "true"}, r"None policy: received unsupported options=map\[full"),
        ("static", {"x": "true"}, 'unknown CPU Manager Policy option: "x"'),
        ("static", {"full-pcpus-only": "maybe"}, 'bad value for option "full-pcpus-only": strconv.ParseBool'),
    ):
        with pytest.raises(ValueError, match=f"--cpu-manager-policy-options: {words}"):
            policy.options(name, given_)
    by_socket = policy.options("static", {"align-by-socket": "true"})
    policy.check(by_socket, PLAIN, "restricted")
    with pytest.raises(ValueError, match="single-numa-node policy is incompatible with CPUManager align-by-"):
        policy.check(by_socket, PLAIN, "single-numa-node")
    with pytest.raises(ValueError, match="number of sockets are more than number of NUMA"):
        policy.check(by_socket, LARGE, "none")


def test_the_gate_refuses_whom_there_is_no_processor_for(tmp_path: Path) -> None:
    roomy = {"status": {"allocatable": {"cpu": "9", "memory": "9Gi", "pods": "9"}}, "metadata": {"name": "n"}}

    async def fresh_node() -> JSON:
        return roomy

    gate = Gate(lambda: roomy, fresh_node, managers=fresh(tmp_path).admit)
    assert gate.judge(pod("a", "2"), []).refusal is None
    refusal = gate.judge(pod("b", "2"), [pod("a", "2")]).refusal
    assert refusal is not None and refusal[0] == "UnexpectedAdmissionError"
    assert gate.judge(pod("c", "1"), [pod("a", "2")]).refusal is None
    (tmp_path / "other").mkdir()
    given_ = NodeAgentOptions(cpu_manager_policy="static", reserved_cpus="0")
    made = cpu_pool(given_, Reservation({}, {}), tmp_path / "other")
    assert made is not None and made.reserved == {0}
    (tmp_path / "third").mkdir()
    assert cpu_pool(NodeAgentOptions(), Reservation({}, {}), tmp_path / "third") is None
    with pytest.raises(ValueError, match="--cpu-manager-reconcile-period"):
        reconcile_period(NodeAgentOptions(cpu_manager_reconcile_period="0s"))
