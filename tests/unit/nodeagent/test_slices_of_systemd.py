"""cgroups as systemd's slices: what they are called, where they lie, and what systemd is told of their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.host import slices
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.limits import Limits

PARTS = ("kubepods", "burstable", "pod1-2")
NAME = "kubepods-burstable-pod1_2.slice"


def test_names_and_folders() -> None:
    assert slices.name(PARTS) == NAME and slices.name(()) == "-.slice"
    assert slices.path(PARTS) == f"kubepods.slice/kubepods-burstable.slice/{NAME}" and slices.path(()) == ""
    for parts in (PARTS, (), ("system",), ("lab", "worker-1", "kubepods")):
        assert slices.parts(slices.name(parts)) == parts


def test_limits_as_properties() -> None:
    limits = Limits(shares=512, quota=33_333, period=100_000, memory=1 << 20, pids=9, huge_pages={"2MB": 1})
    old, new = (slices.properties(limits, v2, 252) for v2 in (False, True))
    assert old == [
        ("MemoryLimit", "t", 1 << 20),
        ("CPUShares", "t", 512),
        ("CPUQuotaPeriodUSec", "t", 100_000),
        ("CPUQuotaPerSecUSec", "t", 340_000),  # counted in hundredths of a processor, upwards
        ("TasksMax", "t", 9),
    ]
    assert new == [("MemoryMax", "t", 1 << 20), ("CPUWeight", "t", 20), *old[2:]]
    free = slices.properties(Limits(quota=-1, period=100_000), True, 239)  # which knows no period
    assert free == [("CPUQuotaPerSecUSec", "t", 2**64 - 1)]
    assert slices.properties(Limits(), False, 252) == []


def test_a_new_slice_is_described() -> None:
    made = {name: value for name, _, value in slices.unit(PARTS, Limits(shares=2), True, 252)}
    assert made["Wants"] == ["kubepods-burstable.slice"] and made["CPUWeight"] == 1
    assert made["DefaultDependencies"] is False and made["IOAccounting"] is True
    made = {name: value for name, _, value in slices.unit(("kubepods",), Limits(), False, 252)}
    assert made["Wants"] == ["-.slice"] and made["BlockIOAccounting"] is True and "IOAccounting" not in made


@pytest.mark.parametrize(
    ("text", "number"),
    [("252 (252.38-1~deb12u1)", 252), ("v246.1", 246), ("255~rc1", 255), ("", 0), ("x", 0)],
)
def test_versions(text: str, number: int) -> None:
    assert slices.version(text) == number


def test_pods_are_found_again_by_their_slices(tmp_path: Path) -> None:
    groups = Cgroups("/lab", "systemd", tmp_path)
    pod: dict[str, Any] = {"metadata": {"uid": "0a-1b"}, "spec": {"containers": [{"name": "c"}]}}
    (tmp_path / "memory").mkdir()
    folder = tmp_path / "memory" / groups.classes()[2].lstrip("/") / groups.parent(pod)
    folder.mkdir(parents=True)
    assert groups.parent(pod) == "lab-kubepods-besteffort-pod0a_1b.slice" and groups.known() == {"0a-1b"}
    assert groups.classes()[1] == "/lab.slice/lab-kubepods.slice/lab-kubepods-burstable.slice"
    (folder / "memory.usage_in_bytes").write_text("5\n")
    assert groups.memory_used(pod) == 5
