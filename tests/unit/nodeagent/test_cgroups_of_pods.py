"""What is written into the cgroups of pods and of their classes, over folders as both versions of the kernel show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.pod import qos

JSON = dict[str, Any]
GIB = 2**30


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
    groups.start()
    shares = tmp_path / "cpu/n/kubepods/burstable/cpu.shares"
    assert (tmp_path / "cpu/n/kubepods/besteffort/cpu.shares").read_text() == "2"
    groups.create(pod("a-1", "500m"))
    groups.create(pod("a-2", "250m", overhead={"cpu": "250m"}))
    groups.create(pod("a-3", "4", "1Gi", bound=True))  # guaranteed: no part of it
    groups.create(pod("a-4"))
    assert shares.read_text() == "1024"
    groups.create(pod("a-1", "1500m"))  # resized
    assert shares.read_text() == "2048"
    assert groups.known() == {"a-1", "a-2", "a-3", "a-4"}
    for file in (tmp_path / "cpu/n/kubepods/burstable/poda-1").iterdir():
        file.unlink()  # as the kernel lets go of a cgroup's files
    await groups.remove("a-1")
    assert shares.read_text() == "512" and groups.known() == {"a-2", "a-3", "a-4"}


def test_a_pod_with_processors_for_itself_has_no_quota(tmp_path: Path) -> None:
    made = pod("u", "2", "1Gi", bound=True)
    (tmp_path / "2").mkdir()
    (tmp_path / "2/cgroup.controllers").write_text("cpu memory")
    for base, file, bound, free in (
        (v1(tmp_path / "1"), "cpu/n/kubepods/podu/cpu.cfs_quota_us", "200000", "-1"),
        (tmp_path / "2", "n/kubepods/podu/cpu.max", "200000 100000", "max 100000"),
    ):
        groups = Cgroups("/n", "cgroupfs", base)
        groups.create(made)
        assert (base / file).read_text() == bound
        groups.alone = lambda uid: uid == "u"
        groups.create(made)
        assert (base / file).read_text() == free


def test_processes_and_huge_pages_are_bound(tmp_path: Path) -> None:
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
    groups.create(made)
    assert [file.read_text() for file in files] == [str(4 << 20), "0", "max", "0", "max"]
    assert (tmp_path / "pids/n/kubepods/burstable/podu/pids.max").read_text() == "99"
    assert qos.huge_pages({"containers": [{"resources": {"limits": {"hugepages-1Gi": "2Gi"}}}]}) == {
        "1GB": 2 * GIB
    }


def test_version_two_has_one_tree(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    groups = Cgroups("/n", "cgroupfs", tmp_path, pod_pids=7)
    groups.start()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    groups.create(pod("u-1", "500m", "64Mi", bound=True))
    groups.create(pod("u-2", "1"))
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
    values = qos.container_resources(made, made["spec"]["containers"][0], 4 * GIB)
    assert (values.cpu_quota, values.memory_limit, values.cpu_shares) == (100_000, GIB, 1024)
    own = made["spec"]["containers"][0] | {"resources": {"limits": {"memory": "64Mi"}}}
    values = qos.container_resources(made, own, 4 * GIB)
    assert (values.cpu_quota, values.memory_limit) == (100_000, 64 << 20)
