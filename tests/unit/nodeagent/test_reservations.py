"""What pods may have of a node, and what bad reservations are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from bamikube.api.quantity import Quantity
from bamikube.kit.clock import LoopClock
from bamikube.kit.options import parse_options
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.linux import LinuxHost
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.node import reservations
from bamikube.nodeagent.node.enforcing import Enforcement
from bamikube.nodeagent.node.facts import Machine, huge_pages
from bamikube.nodeagent.node.reservations import Bounds, Daemons, allocatable, bounds, capacity
from bamikube.nodeagent.node.status import shown
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.settings import eviction_policy, reserved
from tests.simulation import virtual

MACHINE = Machine(
    4, 8 * 2**30, 100 * 2**30, "amd64", "6.1", "Linux", "m", "s", "b", 32768, ((2**21, 16), (2**30, 0))
)


def given(*flags: str, machine: Machine = MACHINE) -> tuple[dict[str, str], Bounds]:
    options = parse_options(NodeAgentOptions, list(flags), "nodeagent")
    reservation = reserved(options, eviction_policy(options).thresholds, machine)
    return shown(allocatable(machine, 110, reservation)), bounds(machine, reservation)


def test_what_is_left_of_the_capacity() -> None:
    assert shown(capacity(MACHINE, 110)) == {
        "cpu": "4", "ephemeral-storage": "100Gi", "hugepages-1Gi": "0", "hugepages-2Mi": "32Mi", "memory": "8Gi", "pods": "110",
    }  # fmt: skip
    left, bound = given()
    assert left == {
        "cpu": "4", "ephemeral-storage": "96636764000", "hugepages-1Gi": "0", "hugepages-2Mi": "32Mi", "memory": "8060Mi",
        "pods": "110",
    }  # fmt: skip
    assert bound == Bounds(4096, 8 * 2**30, 32768), "eviction has to have something to do"
    left, bound = given(
        "--kube-reserved=cpu=100m,memory=1Gi,ephemeral-storage=1Gi,pid=1000",
        "--system-reserved=cpu=400m,memory=500Mi",
        "--eviction-hard=memory.available<200Mi",
    )
    assert (left["cpu"], left["memory"], left["ephemeral-storage"]) == ("3500m", "6436Mi", "99Gi")
    assert bound == Bounds(3584, 8 * 2**30 - 2**30 - 500 * 2**20, 31768)


def test_named_processors_take_the_place_of_amounts() -> None:
    left, _ = given("--reserved-cpus=0,2-3", "--kube-reserved=cpu=100m,memory=1Gi", "--system-reserved=cpu=1")
    assert left["cpu"] == "1" and left["memory"] == "7036Mi"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--kube-reserved=gpu=1", '--kube-reserved: cannot reserve "gpu" resource'),
        ("--kube-reserved=cpu=-1", '--kube-reserved: resource quantity for "cpu" cannot be negative: -1'),
        ("--system-reserved=memory=lots", '--system-reserved: failed to parse quantity "lots" for "memory" resource'),
        ("--system-reserved=memory=9Gi", 'resource "memory" has a reservation of 9316Mi but capacity of 8Gi. Expected capacity >= reservation.'),
        ("--kube-reserved=pid=40000", 'resource "pid" has a reservation of 40k but capacity of 32768'),
        ("--reserved-cpus=3-1", "--reserved-cpus: '3-1' is no processor and no range of them"),
        ("--reserved-cpus=0-7", 'resource "cpu" has a reservation of 8 but capacity of 4'),
        ("--enforce-node-allocatable=all", "--enforce-node-allocatable: 'all' is none of pods,"),
        ("--enforce-node-allocatable=pods,none", "none cannot be given beside others"),
        ("--enforce-node-allocatable=kube-reserved", 'kubeReservedCgroup (--kube-reserved-cgroup) must be specified when "kube-reserved"'),
        ("--enforce-node-allocatable=kube-reserved,kube-reserved-compressible", "kube-reserved and kube-reserved-compressible cannot both be given"),
        ("--enforce-node-allocatable=kube-reserved-compressible", 'must be specified when "kube-reserved-compressible"'),
        ("--enforce-node-allocatable=system-reserved", 'systemReservedCgroup (--system-reserved-cgroup) must be specified'),
    ],
)  # fmt: skip
def test_bad_reservations_are_named(flag: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^(--|invalid Node Allocatable)") as caught:
        given(flag)
    assert said in str(caught.value)


def test_huge_pages_are_those_the_kernel_set_aside(tmp_path: Path) -> None:
    for name, number in (("hugepages-2048kB", "8\n"), ("hugepages-1048576kB", "0\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nr_hugepages").write_text(number)
    assert huge_pages(tmp_path) == ((2**21, 8), (2**30, 0)) and huge_pages(tmp_path / "none") == ()


async def test_all_pods_are_bound_in_both_versions_of_cgroups(tmp_path: Path) -> None:
    for name in ("cpu", "memory", "pids"):
        (tmp_path / "1" / name / "n/kubepods").mkdir(parents=True)
    await Cgroups("/n", "cgroupfs", tmp_path / "1").bound_pods(Bounds(3584, 1000, 99))
    written = {p.name: p.read_text() for p in (tmp_path / "1").rglob("*") if p.is_file()}
    assert written == {"cpu.shares": "3584", "memory.limit_in_bytes": "1000", "pids.max": "99"}
    (tmp_path / "2/n/kubepods").mkdir(parents=True)
    (tmp_path / "2/cgroup.controllers").write_text("cpu memory pids")
    await Cgroups("/n", "cgroupfs", tmp_path / "2").bound_pods(Bounds(1024, 1000, 99))
    found = {p.name: p.read_text() for p in (tmp_path / "2/n/kubepods").iterdir()}
    assert found == {"cpu.weight": "39", "memory.max": "1000", "pids.max": "99"}
    with pytest.raises(OSError):
        await Cgroups("/other", "cgroupfs", tmp_path / "2").bound_pods(Bounds(1, 1, 1))


async def test_daemons_are_bound_to_what_is_reserved_for_them(tmp_path: Path) -> None:
    options = parse_options(
        NodeAgentOptions,
        [
            "--kube-reserved=memory=1Gi,pid=100", "--system-reserved=cpu=500m", "--kube-reserved-cgroup=/kube",
            "--enforce-node-allocatable=pods,kube-reserved,system-reserved", "--system-reserved-cgroup=/system.slice",
        ],
        "nodeagent",
    )  # fmt: skip
    found = reserved(options, (), MACHINE)
    assert found.enforced and found.daemons == (
        Daemons("system", "/system.slice", Bounds(shares=512)),
        Daemons("kube", "/kube", Bounds(memory=2**30, pids=100)),
    )
    for name in ("cpu", "memory", "pids"):
        (tmp_path / name / "kube").mkdir(parents=True)
    host = LinuxHost(tmp_path / "root", tmp_path / "log", Cgroups("/", "cgroupfs", tmp_path))
    await host.bound(found.daemons[1].bounds, "/kube")
    written = {p.name: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {"memory.limit_in_bytes": str(2**30), "pids.max": "100"}
    text = rf'^cgroup \["system.slice"\] has some missing paths: {tmp_path}/cpu/system.slice, '
    with pytest.raises(HostFailure, match=text):
        await host.bound(found.daemons[0].bounds, "/system.slice")
    named = parse_options(
        NodeAgentOptions, ["--reserved-cpus=0", "--kube-reserved-cgroup=/kube"], "nodeagent"
    )
    with pytest.raises(ValueError, match="--reserved-cpus: can't use reservedSystemCPUs"):
        reserved(named, (), MACHINE)


def test_daemons_may_be_bound_in_cpu_alone() -> None:
    options = parse_options(
        NodeAgentOptions,
        [
            "--kube-reserved=cpu=1,memory=1Gi", "--system-reserved=memory=1Gi", "--kube-reserved-cgroup=/kube", "--system-reserved-cgroup=/system",
            "--enforce-node-allocatable=kube-reserved-compressible,system-reserved",
        ],
        "nodeagent",
    )  # fmt: skip
    found = reserved(options, (), MACHINE)
    assert not found.enforced and found.daemons == (
        Daemons("system", "/system", Bounds(memory=2**30)),
        Daemons("kube", "/kube", Bounds(shares=1024), compressible=True),
    )


def test_a_bound_that_the_kernel_refuses_is_tried_again() -> None:
    refused = [HostFailure("cannot write memory.limit_in_bytes: Device or resource busy")] * 2
    told: list[tuple[str, str, str]] = []
    tries: list[tuple[float, Bounds, str]] = []
    clock = LoopClock()

    async def bound(bounds: Bounds, cgroup: str) -> None:
        tries.append((clock.monotonic(), bounds, cgroup))
        if refused:
            raise refused.pop()

    async def story() -> None:
        made = Enforcement(bound, lambda *what: told.append(what), clock, "/lab/worker-1")
        await made.pods(MACHINE, reservations.Reservation({"cpu": Quantity.of(1)}, {}, enforced=False))
        refused.append(HostFailure("nothing there"))
        daemons = (Daemons("kube", "/kube", Bounds(512), compressible=True),)
        with pytest.raises(HostFailure):
            await made.daemons(reservations.Reservation({}, {}, True, daemons))
        await made.daemons(reservations.Reservation({}, {}, True, daemons))

    virtual.run(story())
    assert [moment - tries[0][0] for moment, _, _ in tries[:3]] == [0, 60, 120]
    assert tries[0][1].shares == 4096  # what is reserved is not kept from pods without enforcement
    text = 'Failed to update Node Allocatable Limits ["lab" "worker-1" "kubepods"]: cannot write memory.limit_in_bytes'
    assert told[0][:2] == ("Warning", "FailedNodeAllocatableEnforcement") and told[0][2].startswith(text)
    assert [message for _, _, message in told[2:]] == [
        "Updated Node Allocatable limit across pods",
        'Failed to enforce Kube Reserved Compressible Cgroup Limits on "/kube": nothing there',
        "Updated limits on kube reserved cgroup /kube",
    ]
