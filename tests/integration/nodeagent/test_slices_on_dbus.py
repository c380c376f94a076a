"""Pods' slices over a real D-Bus daemon. systemd is a stand-in: it takes only what systemd knows, keeps units, and ends jobs with a signal."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from bamikube.nodeagent.host import slices
from bamikube.nodeagent.host.bus import SYSTEMD
from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.port import CgroupFailure
from bamikube.nodeagent.node.reservations import Bounds
from tests.support.message_bus import PrivateBus

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="no dbus-daemon on this machine")
JSON = dict[str, Any]
KNOWN = {
    "Description": "s", "Wants": "as", "DefaultDependencies": "b", "MemoryAccounting": "b", "CPUAccounting": "b",
    "BlockIOAccounting": "b", "IOAccounting": "b", "TasksAccounting": "b", "MemoryLimit": "t", "MemoryMax": "t",
    "CPUShares": "t", "CPUWeight": "t", "CPUQuotaPerSecUSec": "t", "CPUQuotaPeriodUSec": "t", "TasksMax": "t", "AllowedCPUs": "ay",
}  # fmt: skip


class StandIn:
    """Keeps units with their properties, and a folder for each below ``base`` as systemd does in /sys/fs/cgroup."""

    def __init__(self, bus: MessageBus, base: Path) -> None:
        self.bus, self._base, self._jobs = bus, base, 0
        self.units: dict[str, JSON] = {}
        self.asked: list[tuple[str, str]] = []
        self.fails = ""  # a unit whose jobs fail
        bus.add_message_handler(self._heard)

    def _heard(self, message: Message) -> bool | None:
        if (
            message.message_type != MessageType.METHOD_CALL
            or message.interface == "org.freedesktop.DBus.Peer"
        ):
            return None
        self._task = asyncio.ensure_future(self._answer(message))
        return True

    async def _answer(self, message: Message) -> None:
        body, member = message.body, str(message.member)
        answer = Message.new_method_return(message)
        if member == "Get":
            answer = Message.new_method_return(message, "v", [Variant("s", "252 (252.38-1)")])
        elif member != "Subscribe":
            self.asked.append((member, body[0]))
            error = self._carry_out(member, body)
            if error:
                answer = Message.new_error(
                    message, f"org.freedesktop.systemd1.{error}", f"Unit {body[0]}: no"
                )
            elif member in ("StartTransientUnit", "StopUnit"):
                self._jobs += 1
                job = f"/org/freedesktop/systemd1/job/{self._jobs}"
                result = "failed" if body[0] == self.fails else "done"
                said = Message.new_signal(
                    SYSTEMD[1], SYSTEMD[2], "JobRemoved", "uoss", [self._jobs, job, body[0], result]
                )
                answer = Message.new_method_return(message, "o", [job])
                await self.bus.send(answer)
                await self.bus.send(said)
                return
        await self.bus.send(answer)

    def _carry_out(self, member: str, body: list[Any]) -> str:
        name, there = body[0], body[0] in self.units
        folder = self._base / slices.path(slices.parts(name))
        if member == "StartTransientUnit":
            if there:
                return "UnitExists"
            self.units[name] = _checked(body[2])
            folder.mkdir(parents=True, exist_ok=True)
        elif not there:
            return "NoSuchUnit"
        elif member == "SetUnitProperties":
            self.units[name] |= _checked(body[2])
        elif member == "StopUnit":
            del self.units[name]
            shutil.rmtree(folder)
        return ""


def _checked(properties: list[Any]) -> JSON:
    assert {name: value.signature for name, value in properties}.items() <= KNOWN.items()
    return {name: value.value for name, value in properties}


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[StandIn]:
    bus, base = PrivateBus(tmp_path), tmp_path / "cgroup"
    base.mkdir()
    (base / "cgroup.controllers").write_text("cpu memory pids")
    (base / "cpuset.cpus.effective").write_text("0-8\n")
    yield StandIn(await bus.start(SYSTEMD[0]), base)
    await bus.stop()


def pod(uid: str, cpu: str, memory: str, guaranteed: bool = False) -> JSON:
    amounts = {"cpu": cpu, "memory": memory}
    resources: JSON = {"limits": amounts, "requests": amounts if guaranteed else {"cpu": "100m"}}
    return {"metadata": {"uid": uid}, "spec": {"containers": [{"name": "c", "resources": resources}]}}


def cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups("/", "systemd", tmp_path / "cgroup", pod_pids=50, bus=f"unix:path={tmp_path}/bus")


async def test_slices_are_made_changed_and_stopped(systemd: StandIn, tmp_path: Path) -> None:
    groups = cgroups(tmp_path)
    await groups.start()
    assert list(systemd.units) == ["kubepods.slice", "kubepods-burstable.slice", "kubepods-besteffort.slice"]
    assert systemd.units["kubepods-besteffort.slice"]["CPUWeight"] == 1
    await groups.bound_pods(Bounds(2048, 1 << 30, 1000))
    assert (
        systemd.units["kubepods.slice"].items()
        >= {"MemoryMax": 1 << 30, "CPUWeight": 79, "TasksMax": 1000}.items()
    )
    assert systemd.units["kubepods.slice"]["AllowedCPUs"] == b"\xff\x01"
    with pytest.raises(
        OSError, match=r'could not read controllers for cgroup \["system"\]: open .*system.slice/'
    ):
        await groups.bound("/system.slice", Bounds(512))
    systemd.units["system.slice"] = {}
    (tmp_path / "cgroup/system.slice").mkdir()
    await groups.bound("/system.slice", Bounds(512, 1 << 20))
    assert systemd.units["system.slice"] == {"CPUWeight": 20, "MemoryMax": 1 << 20}
    await asyncio.gather(*(groups.create(pod(f"u-{n}", "500m", "64Mi")) for n in range(5)))
    await groups.create(pod("g-1", "2", "1Gi", guaranteed=True))
    made = systemd.units["kubepods-burstable-podu_3.slice"]
    assert made["Wants"] == ["kubepods-burstable.slice"] and made["DefaultDependencies"] is False
    assert (made["MemoryMax"], made["CPUQuotaPerSecUSec"], made["TasksMax"]) == (64 << 20, 500_000, 50)
    assert systemd.units["kubepods-podg_1.slice"]["CPUQuotaPerSecUSec"] == 2_000_000
    assert systemd.units["kubepods-burstable.slice"]["CPUWeight"] == 1 + (512 - 2) * 9999 // 262142
    folder = tmp_path / "cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_3.slice"
    assert (folder / "memory.max").read_text() == str(64 << 20) and (folder / "pids.max").read_text() == "50"
    assert groups.known() == {"g-1", *(f"u-{n}" for n in range(5))}
    systemd.asked.clear()
    await groups.create(pod("u-3", "500m", "64Mi"))
    assert systemd.asked == []  # nothing has changed
    await groups.create(pod("u-3", "1", "96Mi"))
    assert systemd.asked == [("SetUnitProperties", "kubepods-burstable-podu_3.slice")]
    assert systemd.units["kubepods-burstable-podu_3.slice"]["MemoryMax"] == 96 << 20
    await groups.remove("u-3")
    assert "kubepods-burstable-podu_3.slice" not in systemd.units and "u-3" not in groups.known()
    await groups.remove("u-3")  # it is gone already


async def test_an_agent_that_starts_again_finds_its_slices(systemd: StandIn, tmp_path: Path) -> None:
    await cgroups(tmp_path).create(pod("u-1", "500m", "64Mi"))
    again = cgroups(tmp_path)
    await again.start()
    assert again.known() == {"u-1"}
    await again.create(pod("u-1", "500m", "32Mi"))
    assert systemd.units["kubepods-burstable-podu_1.slice"]["MemoryMax"] == 32 << 20
    del systemd.units["kubepods-burstable-podu_1.slice"]  # by somebody else
    await again.create(pod("u-1", "500m", "16Mi"))
    assert systemd.units["kubepods-burstable-podu_1.slice"]["MemoryMax"] == 16 << 20


async def test_what_systemd_cannot_do_is_said(systemd: StandIn, tmp_path: Path) -> None:
    groups, systemd.fails = cgroups(tmp_path), "kubepods-burstable-podu_1.slice"
    text = "error creating systemd unit `kubepods-burstable-podu_1.slice`: got `failed`"
    with pytest.raises(CgroupFailure, match=text):
        await groups.create(pod("u-1", "500m", "64Mi"))
    assert ("ResetFailedUnit", systemd.fails) in systemd.asked
    nowhere = Cgroups("/", "systemd", tmp_path / "cgroup", bus=f"unix:path={tmp_path}/none")
    with pytest.raises(CgroupFailure, match=r"failed to create container for \[kubepods\] : "):
        await nowhere.start()
