"""What is written into the cgroups of pods and of their classes, over folders as both versions of the kernel show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent import settings
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.node import facts
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod import qos
from bamikube.nodeagent.pod.kernel import Kernel, page_name

JSON = dict[str, Any]
GIB = 2**30
KERNEL = Kernel(memory=4 * GIB)


def pod(uid: str, cpu: str = "", memory: str = "", bound: bool = False, **spec: Any) -> JSON:
    asked = {name: text for name, text in (("cpu", cpu), ("memory", memory)) if text}
    resources: JSON = {"requests": asked} | ({"limits": asked} if bound else {})
    container = {"name": "c", "resources": resources}
    return {"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [container]} | spec}


def v1(base: Path) -> Path:
    for name in ("cpu", "memory", "pids"):
        (base / name).mkdir(parents=True)
    return base


async def test_classes_weigh_what_their_pods_request(tmp_path: Path) -> None:
    groups = Cgroups("/n", "cgroupfs", v1(tmp_path))
    await groups.start()
    shares = tmp_path / "cpu/n/kubepods/burstable/cpu.shares"
    assert (tmp_path / "cpu/n/kubepods/besteffort/cpu.shares").read_text() == "2"
    await groups.create(pod("a-1", "500m"))
    await groups.create(pod("a-2", "250m", overhead={"cpu": "250m"}))
    await groups.create(pod("a-3", "4", "1Gi", bound=True))  # guaranteed: no part of it
    await groups.create(pod("a-4"))
    assert shares.read_text() == "1024"
    await groups.create(pod("a-1", "1500m"))  # resized
    assert shares.read_text() == "2048"
    assert groups.known() == {"a-1", "a-2", "a-3", "a-4"}
    for file in (tmp_path / "cpu/n/kubepods/burstable/poda-1").iterdir():
        file.unlink()  # as the kernel lets go of a cgroup's files
    await groups.remove("a-1")
    assert shares.read_text() == "512" and groups.known() == {"a-2", "a-3", "a-4"}


async def test_a_pod_with_processors_for_itself_has_no_quota(tmp_path: Path) -> None:
    made = pod("u", "2", "1Gi", bound=True)
    (tmp_path / "2").mkdir()
    (tmp_path / "2/cgroup.controllers").write_text("cpu memory")
    for base, file, bound, free in (
        (v1(tmp_path / "1"), "cpu/n/kubepods/podu/cpu.cfs_quota_us", "200000", "-1"),
        (tmp_path / "2", "n/kubepods/podu/cpu.max", "200000 100000", "max 100000"),
    ):
        groups = Cgroups("/n", "cgroupfs", base)
        await groups.create(made)
        assert (base / file).read_text() == bound
        groups.alone = lambda uid: uid == "u"
        await groups.create(made)
        assert (base / file).read_text() == free


async def test_processes_and_huge_pages_are_bound(tmp_path: Path) -> None:
    groups = Cgroups("/n", "cgroupfs", v1(tmp_path), pod_pids=99)
    (tmp_path / "hugetlb/n/kubepods/burstable/podu").mkdir(parents=True)
    folder = tmp_path / "hugetlb/n/kubepods/burstable/podu"
    files = [
        folder / f"hugetlb.{name}.limit_in_bytes" for name in ("2MB", "1GB", "64KB.rsvd", "64KB", "2MB.rsvd")
    ]
    for file in files:
        file.write_text("max")
    asked = {"hugepages-2Mi": "4Mi", "memory": "64Mi"}
    made = pod("u")
    made["spec"]["containers"][0]["resources"] = {"limits": asked, "requests": asked}
    await groups.create(made)
    assert [file.read_text() for file in files] == [str(4 << 20), "0", "max", "0", "max"]
    assert (tmp_path / "pids/n/kubepods/burstable/podu/pids.max").read_text() == "99"
    assert qos.huge_pages({"containers": [{"resources": {"limits": {"hugepages-1Gi": "2Gi"}}}]}) == {
        "1GB": 2 * GIB
    }


async def test_version_two_has_one_tree(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    groups = Cgroups("/n", "cgroupfs", tmp_path, pod_pids=7)
    await groups.start()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    await groups.create(pod("u-1", "500m", "64Mi", bound=True))
    await groups.create(pod("u-2", "1"))
    found = {file.name: file.read_text() for file in (tmp_path / "n/kubepods/podu-1").iterdir()}
    weight = str(1 + (512 - 2) * 9999 // 262142)
    assert found == {
        "cpu.weight": weight,
        "cpu.max": "50000 100000",
        "memory.max": str(64 << 20),
        "pids.max": "7",
    }
    assert (tmp_path / "n/kubepods/burstable/cpu.weight").read_text() == "39"
    assert (tmp_path / "n/kubepods/besteffort/cpu.weight").read_text() == "1"


def score(spec: JSON, name: str = "c") -> int:
    made = {"metadata": {"name": "p", "uid": "u"}, "spec": spec}
    every = [*spec["containers"], *spec.get("initContainers", ())]
    return qos.oom_score(made, next(one for one in every if one["name"] == name), 4 * GIB)


def asks(memory: str, name: str = "c", **more: Any) -> JSON:
    return {"name": name, "resources": {"requests": {"memory": memory}}} | more


@pytest.mark.parametrize(
    ("spec", "name", "expected"),
    [
        ({"containers": [{"name": "c"}]}, "c", 1000),
        ({"containers": [asks("1Gi")]}, "c", 750),
        ({"containers": [asks("1")]}, "c", 999),
        ({"containers": [asks("4Gi")]}, "c", 3),
        (
            {
                "containers": [{"name": "c"}],
                "priorityClassName": "system-node-critical",
                "priority": 2_000_001_000,
            },
            "c",
            -997,
        ),
        ({"containers": [{"name": "c"}], "priorityClassName": "system-node-critical"}, "c", 1000),
        # a sidecar goes after the containers that it serves
        (
            {"containers": [asks("1Gi")], "initContainers": [asks("64Mi", "s", restartPolicy="Always")]},
            "s",
            750,
        ),
        ({"containers": [asks("1Gi")], "initContainers": [asks("64Mi", "i")]}, "i", 985),
        # two containers share what the pod requests beyond them: (2 GiB - 1 GiB) / 2 each
        # and with init containers, whether they stay or not: 1 GiB / 4 each
        (
            {
                "containers": [asks("1Gi"), {"name": "d"}],
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "3Gi"}},
            },
            "d",
            938,
        ),
        (
            {
                "containers": [asks("1Gi"), {"name": "d"}],
                "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "3Gi"}},
            },
            "c",
            625,
        ),
        (
            {
                "containers": [asks("1Gi"), {"name": "d"}],
                "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "3Gi"}},
            },
            "d",
            875,
        ),
    ],
)
def test_who_goes_first_when_memory_runs_out(spec: JSON, name: str, expected: int) -> None:
    assert score(spec, name) == expected


def test_a_container_without_limits_has_those_of_its_pod() -> None:
    made = pod("u", resources={"limits": {"cpu": "1", "memory": "1Gi"}})
    values = qos.container_resources(made, made["spec"]["containers"][0], KERNEL)
    assert (values.cpu_quota, values.memory_limit, values.cpu_shares) == (100_000, GIB, 1024)
    own = made["spec"]["containers"][0] | {"resources": {"limits": {"memory": "64Mi"}}}
    values = qos.container_resources(made, own, KERNEL)
    assert (values.cpu_quota, values.memory_limit) == (100_000, 64 << 20)


V2 = Kernel(memory=16 * GIB, swap=8 * GIB, v2=True, bounds_swap=True, limited_swap=True, single_kill=False)


def held(resources: JSON, kernel: Kernel = V2, **spec: Any) -> qos.Resources:
    made = {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": resources}]} | spec,
    }
    return qos.container_resources(made, made["spec"]["containers"][0], kernel)


@pytest.mark.parametrize(
    ("resources", "spec", "swap"),
    [
        ({"requests": {"memory": "2Gi"}}, {}, GIB),
        ({"requests": {"memory": "2Gi"}, "limits": {"memory": "3Gi"}}, {}, GIB),
        ({"requests": {"memory": "2Gi"}}, {"priority": 2_000_000_000}, 0),
        # burstable by its processors alone: no memory is requested, none is given
        ({"requests": {"cpu": "1"}}, {}, 0),
        ({"requests": {"memory": "2Gi", "cpu": "1"}, "limits": {"memory": "2Gi"}}, {}, 0),
        ({"requests": {"memory": "2Gi", "cpu": "1"}, "limits": {"memory": "2Gi", "cpu": "1"}}, {}, 0),
        ({"requests": {"memory": "17Gi"}}, {}, 0),
        ({}, {}, 0),
    ],
)
def test_swap_is_for_burstable_pods_by_what_they_request(resources: JSON, spec: JSON, swap: int) -> None:
    assert dict(held(resources, **spec).unified) == {"memory.oom.group": "1", "memory.swap.max": str(swap)}
    assert dict(held(resources, replace(V2, limited_swap=False), **spec).unified)["memory.swap.max"] == "0"


def test_what_version_one_can_of_swap_and_kills() -> None:
    asked = {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    old = replace(V2, v2=False, single_kill=True)
    assert (held(asked, old).swap_limit, held(asked, old).unified) == (2 * GIB, ())
    assert held(asked, replace(old, bounds_swap=False)).swap_limit == 0
    assert held({"requests": {"memory": "1Gi"}}, old).swap_limit == 0
    assert held(asked).swap_limit == 0
    assert held(asked, replace(V2, bounds_swap=False, single_kill=True)).unified == ()


def test_huge_pages_of_every_size_are_bound_for_every_container() -> None:
    kernel = replace(V2, huge_pages=(64 << 10, 2 << 20, 1 << 30))
    asked = {"limits": {"hugepages-2Mi": "4Mi", "memory": "64Mi"}}
    assert held(asked, kernel).huge_pages == (("64KB", 0), ("2MB", 4 << 20), ("1GB", 0))
    whole = pod("u", resources={"limits": {"hugepages-1Gi": "1Gi"}})
    assert qos.container_resources(whole, {"name": "c"}, kernel).huge_pages == (
        ("64KB", 0),
        ("2MB", 0),
        ("1GB", GIB),
    )
    assert held({}, kernel).huge_pages == (("64KB", 0), ("2MB", 0), ("1GB", 0))
    assert page_name(16 << 30) == "16GB" and page_name(32 << 20) == "32MB"


async def test_quotas_are_counted_in_the_period_of_the_node(tmp_path: Path) -> None:
    kernel = Kernel(memory=GIB, period=10_000)
    made = pod("u", "2", "1Gi", bound=True)
    values = qos.container_resources(made, made["spec"]["containers"][0], kernel)
    assert (values.cpu_quota, values.cpu_period) == (20_000, 10_000)
    groups = Cgroups("/n", "cgroupfs", v1(tmp_path), kernel=kernel)
    await groups.create(made)
    folder = tmp_path / "cpu/n/kubepods/podu"
    assert [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")] == ["20000", "10000"]
    free = replace(kernel, quotas=False)
    values = qos.container_resources(made, made["spec"]["containers"][0], free)
    assert (values.cpu_quota, values.cpu_period, values.cpu_shares) == (0, 0, 2048)
    await Cgroups("/n", "cgroupfs", tmp_path, kernel=free).create(made)
    assert (folder / "cpu.cfs_quota_us").read_text() == "-1"


def test_a_sandbox_is_told_the_sum_and_what_it_needs_itself() -> None:
    made = pod("u", "500m", "64Mi", bound=True, overhead={"cpu": "250m", "memory": "16Mi"})
    made["spec"]["containers"].append({"name": "d", "resources": {"requests": {"cpu": "250m"}}})
    within, above = qos.sandbox_resources(made, V2), qos.overhead(made, V2)
    assert (within.cpu_shares, within.cpu_quota, within.memory_limit) == (768, 50_000, 64 << 20)
    assert (above.cpu_shares, above.cpu_quota, above.memory_limit) == (256, 25_000, 16 << 20)
    assert above.unified == within.unified == (("memory.oom.group", "1"),)
    assert qos.overhead(pod("u"), V2) == qos.Resources()
    assert qos.overhead(pod("u", overhead={"memory": "16Mi"}), V2).cpu_shares == qos.MIN_SHARES


def test_whether_swap_can_be_bound_is_seen_in_the_cgroups(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:memory:/a\n0::/a/b\n")
    assert not facts.bounds_swap(tmp_path, own)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    assert facts.bounds_swap(tmp_path, own) and not facts.cgroups_v2(tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    assert facts.cgroups_v2(tmp_path) and not facts.bounds_swap(tmp_path, own)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/memory.swap.max").touch()
    assert facts.bounds_swap(tmp_path, own)


def test_how_a_node_holds_containers_is_configured() -> None:
    old = Machine(2, GIB, GIB, "amd64", "", "", "", "", "", swap=GIB, huge_pages=((2 << 20, 8),))
    new = replace(old, cgroups_v2=True, bounds_swap=True)
    assert settings.kernel(NodeAgentOptions(), old) == Kernel(GIB, GIB, huge_pages=(2 << 20,))
    found = settings.kernel(
        NodeAgentOptions(
            memory_swap_behavior="LimitedSwap", cpu_cfs_quota_period="10ms", cpu_cfs_quota=False
        ),
        new,
    )
    assert (found.limited_swap, found.single_kill, found.period, found.quotas) == (True, False, 10_000, False)
    assert settings.kernel(NodeAgentOptions(single_process_oom_kill=True), new).single_kill
    with pytest.raises(
        ValueError, match="singleProcessOOMKill must not be explicitly set to false when using cgroup v1"
    ):
        settings.kernel(NodeAgentOptions(single_process_oom_kill=False), old)
    for period in ("0s", "2s", "0.1ms"):
        with pytest.raises(
            ValueError, match=r"cpuCFSQuotaPeriod \(--cpu-cfs-quota-period\) .* between 1ms and 1sec"
        ):
            settings.kernel(NodeAgentOptions(cpu_cfs_quota_period=period), old)
