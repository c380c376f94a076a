"""What the node agent says of a machine before it begins."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bamikube.client.client import Client
from bamikube.client.transport import InProcessTransport
from bamikube.kit.clock import LoopClock
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.nodeagent.runtime.port import Condition, RuntimeFailure
from bamikube.nodeagent.startup import driver, looks
from bamikube.nodeagent.startup.verdicts import KERNEL, Machine, of_clock, of_kernel, of_machine, of_runtime
from tests.simulation import virtual

GOOD = Machine(
    user=0,
    root="/var/lib/kubelet",
    root_fault="",
    controllers=frozenset(("cpu", "cpuset", "memory", "pids", "hugetlb")),
    cgroups_v2=True,
    swap=(),
)


def test_a_good_machine_needs_no_words() -> None:
    assert of_machine(GOOD, fail_swap_on=True) == []


@pytest.mark.parametrize(
    ("change", "fatal", "said"),
    [
        ({"user": 1000}, True, "it runs as user 1000, not as root; start it with sudo"),
        (
            {"root_fault": "Read-only file system"},
            True,
            "--root-dir /var/lib/kubelet cannot be written to: Read-only",
        ),
        (
            {"controllers": frozenset(("cpuset", "pids", "hugetlb"))},
            True,
            "controllers cpu, memory are not there (v2)",
        ),
        (
            {"controllers": GOOD.controllers - {"pids"}},
            False,
            "pids are not there (v2); limits of these are not kept",
        ),
        ({"swap": ("/dev/sda2",)}, True, "set --fail-swap-on flag to false; swapped to: /dev/sda2"),
    ],
)
def test_what_is_missing_is_said_with_the_way_out(change: dict[str, object], fatal: bool, said: str) -> None:
    (finding,) = of_machine(replace(GOOD, **change), fail_swap_on=True)  # type: ignore[arg-type]
    assert finding.fatal == fatal and said in str(finding)


def test_swap_may_be_allowed() -> None:
    assert of_machine(replace(GOOD, swap=("/swap",)), fail_swap_on=False) == []


@pytest.mark.parametrize(("v2", "wanted", "said"), [(False, True, 1), (False, False, 0), (True, True, 0)])
def test_a_machine_of_cgroups_v1_may_be_refused(v2: bool, wanted: bool, said: int) -> None:
    found = of_machine(replace(GOOD, cgroups_v2=v2), fail_swap_on=True, fail_cgroup_v1=wanted)
    assert len(found) == said
    for one in found:
        assert one.fatal and str(one).startswith(
            "kubelet is configured to not run on a host using cgroup v1; "
        )


def test_the_runtime_and_the_clock() -> None:
    assert of_runtime("unix:///c.sock", "", [Condition("RuntimeReady", True, "", "")]) == []
    (down,) = of_runtime("unix:///c.sock", "failed to connect", [])
    assert "does not answer: failed to connect; start containerd" in str(down) and not down.fatal
    (old,) = of_runtime("unix:///c.sock", "unknown service runtime.v1.RuntimeService", [])
    assert "does not speak CRI v1" in str(old)
    (bare,) = of_runtime("u", "", [Condition("NetworkReady", False, "x", "cni plugin not initialized")])
    assert "NetworkReady: cni plugin not initialized; put a network configuration into /etc/cni/net.d" in str(
        bare
    )
    assert of_clock(100.0, 101.9) is None
    assert "is 60 s behind the API server's" in str(of_clock(100.0, 160.0))
    assert "is 60 s ahead of the API server's" in str(of_clock(160.0, 100.0))


def test_the_looks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    groups, proc, root = tmp_path / "cgroup", tmp_path / "proc", tmp_path / "root"
    for path in (groups, proc, root):
        path.mkdir()
    (groups / "cgroup.controllers").write_text("cpu memory pids\n")
    (proc / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    seen = looks.machine(root, groups, proc)
    assert (seen.cgroups_v2, seen.controllers, seen.swap) == (True, {"cpu", "memory", "pids"}, ("/dev/sda2",))
    assert seen.root_fault == "" and list(root.iterdir()) == []
    (groups / "cgroup.controllers").unlink()
    (groups / "cpu,cpuacct").mkdir()  # two controllers that are mounted as one
    (groups / "cpu,cpuacct" / "tasks").touch()
    seen = looks.machine(tmp_path / "none", groups, tmp_path / "nothing")
    assert (seen.cgroups_v2, seen.controllers, seen.swap) == (False, {"cpu", "cpuacct"}, ())
    assert seen.root_fault == "No such file or directory"


async def test_the_api_servers_clock_is_in_its_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(request: Request) -> Response:
        return Response(200, b"{}", {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})

    world = World()
    await looks.compare_clocks(Client(InProcessTransport(answer), world), world)
    assert "ahead of the API server's; keep both by one source of time" in caplog.text


def test_settings_of_the_kernel_are_asked_for_by_name() -> None:
    assert of_kernel(KERNEL) == [] and of_kernel({}) == []
    (finding,) = of_kernel(KERNEL | {"vm/overcommit_memory": 0, "kernel/panic": 0})
    assert finding.fatal and str(finding) == (
        "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0, "
        "invalid kernel flag: kernel/panic, expected value: 10, actual value: 0; "
        "sysctl -w vm.overcommit_memory=1 kernel.panic=10, or set --protect-kernel-defaults to false"
    )


def test_settings_of_the_kernel_are_read(tmp_path: Path) -> None:
    for name in KERNEL:
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text("7\n")
    (tmp_path / "sys" / "kernel/panic").unlink()
    assert looks.kernel(tmp_path) == dict.fromkeys(KERNEL.keys() - {"kernel/panic"}, 7)


class Tells:
    """A runtime that is asked for its cgroup driver and gives these answers, the last one for ever."""

    def __init__(self, *answers: str | RuntimeFailure) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def cgroup_driver(self) -> str:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, RuntimeFailure):
            raise answer
        return answer


OLD, AWAY = RuntimeFailure("UNIMPLEMENTED", "unknown method RuntimeConfig"), RuntimeFailure("UNAVAILABLE", "")


@pytest.mark.parametrize(
    ("answers", "found", "asked"),
    [
        (("systemd",), ("systemd", True), 1),
        (("",), ("cgroupfs", True), 1),
        ((OLD,), ("cgroupfs", True), 1),
        ((AWAY, AWAY, "systemd"), ("systemd", True), 3),
        ((AWAY,), ("cgroupfs", False), 3),
    ],
)
def test_the_runtime_says_who_makes_cgroups(
    answers: tuple[Any, ...],
    found: tuple[str, bool],
    asked: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(driver, "RUNS", tmp_path)

    async def story() -> None:
        runtime = Tells(*answers)
        assert await driver.choose(runtime, "cgroupfs", LoopClock()) == found
        assert runtime.asked == asked

    virtual.run(story())
    told = "Falling back to using cgroupDriver from kubelet config." in caplog.text
    assert told is (answers == (OLD,))


def test_a_driver_that_this_machine_does_not_have_ends_the_node_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driver, "RUNS", tmp_path / "none")

    async def story() -> None:
        with pytest.raises(OSError, match="systemd does not run this machine; give --cgroup-driver cgroupfs"):
            await driver.choose(Tells(OLD), "systemd", LoopClock())
        assert await driver.choose(Tells("cgroupfs"), "systemd", LoopClock()) == ("cgroupfs", True)

    virtual.run(story())


def test_a_runtime_that_answers_late_and_otherwise_ends_the_node_agent() -> None:
    async def story() -> None:
        await driver.verify(Tells(AWAY, "cgroupfs"), "cgroupfs", LoopClock())
        await driver.verify(Tells(AWAY, OLD), "cgroupfs", LoopClock())
        with pytest.raises(OSError, match="cgroup driver is systemd, not cgroupfs"):
            await driver.verify(Tells(AWAY, "systemd"), "cgroupfs", LoopClock())

    virtual.run(story())
