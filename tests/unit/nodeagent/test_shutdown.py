"""Before the machine goes down: who ends when, and what happens to whom, over a login manager that is made up."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.kit.options import parse_options
from bamikube.kit.world import World
from bamikube.nodeagent.node import status
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.state import Memory, Rejection, RuntimeState
from bamikube.nodeagent.runtime.port import Condition, Container
from bamikube.nodeagent.settings import shutdown_periods
from bamikube.nodeagent.shutdown.keeper import ShutdownKeeper
from bamikube.nodeagent.shutdown.plan import MESSAGE, Period, groups, periods, rejection
from tests.unit.nodeagent.test_eviction import Turned, pod

JSON = dict[str, Any]
CRITICAL = 2_000_000_000


def flags(*argv: str) -> tuple[Period, ...]:
    return shutdown_periods(parse_options(NodeAgentOptions, list(argv), "nodeagent"))


def test_the_time_is_shared_out() -> None:
    assert flags() == ()
    assert flags("--shutdown-grace-period=30s", "--shutdown-grace-period-critical-pods=10s") == (
        Period(0, 20),
        Period(CRITICAL, 10),
    )
    assert flags("--shutdown-grace-period-by-pod-priority=1000=10,0=60") == (Period(0, 60), Period(1000, 10))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--shutdown-grace-period=500ms"], "--shutdown-grace-period 0.5s must be either zero or otherwise >= 1 sec"),
        (["--shutdown-grace-period=2s", "--shutdown-grace-period-critical-pods=3s"], "critical-pods 3s must be <= --shutdown-grace-period 2s"),
        (["--shutdown-grace-period=soon"], "--shutdown-grace-period: 'soon' is not a duration"),
        (["--shutdown-grace-period=9s", "--shutdown-grace-period-by-pod-priority=0=1"], "cannot specify both"),
        (["--shutdown-grace-period-by-pod-priority=0=-1"], "0=-1 must not be negative"),
    ],
)  # fmt: skip
def test_bad_flags_are_named(argv: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^--shutdown") as caught:
        flags(*argv)
    assert said in str(caught.value)


def test_pods_end_by_priority() -> None:
    given = (Period(0, 20), Period(1000, 5), Period(CRITICAL, 10))
    pods = [
        pod("none"),
        pod("below", -5),
        pod("high", 1000),
        pod("higher", 5000),
        pod("system", CRITICAL + 1000),
    ]
    found = [(g.seconds, [p["metadata"]["name"] for p in g.pods]) for g in groups(given, pods)]
    assert found == [(20, ["none", "below"]), (5, ["high", "higher"]), (10, ["system"])]
    assert groups(given, [pod("system", CRITICAL)])[0].seconds == 10, (
        "nobody waits for groups that are nobody's"
    )
    assert rejection(pod("web"), 20) == Rejection("Terminated", MESSAGE, 20.0, True)
    assert rejection(pod("quick", terminationGracePeriodSeconds=3), 20).grace == 3.0


@given(
    st.dictionaries(st.integers(-10, 10), st.integers(0, 9), min_size=1),
    st.lists(st.integers(-20, 20), max_size=20),
)
def test_every_pod_ends_once_and_none_before_a_lower_one(
    by_priority: dict[int, int], priorities: list[int]
) -> None:
    made = periods(0, 0, by_priority)
    found = groups(made, [pod(str(n), priority) for n, priority in enumerate(priorities)])
    order = [p["spec"]["priority"] for g in found for p in g.pods]
    assert sorted(order) == sorted(priorities)
    for before, after in itertools.pairwise(found):
        assert max(p["spec"]["priority"] for p in before.pods) < min(
            p["spec"]["priority"] for p in after.pods
        )


@dataclass
class Fake:
    """A pod that needs so many seconds to end."""

    pod: JSON
    clock: Turned
    needs: float
    log: list[Any]
    status: JSON = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    told: float | None = None

    @property
    def state(self) -> RuntimeState:
        if self.told is not None and self.clock.time >= self.told + self.needs:
            return RuntimeState()
        return RuntimeState((), (Container("c", "s", "app", 0, "running", 0.0),))

    def put_out(self, why: Rejection) -> None:
        self.told = self.clock.time
        self.log.append((self.pod["metadata"]["name"], self.clock.time, why.grace))


@dataclass
class Login:
    """The login manager: ``coming`` is what it tells of."""

    log: list[Any]
    coming: list[bool]
    waits: float = 5.0
    refuses: bool = False

    async def delay(self) -> float:
        return self.waits

    async def lengthen(self, seconds: float) -> None:
        if self.refuses:
            raise OSError("logind waits for 5s at most")
        self.log.append(f"lengthen {seconds:g}")

    async def hold(self) -> None:
        self.log.append("hold")

    def release(self) -> None:
        self.log.append("release")

    async def events(self) -> AsyncIterator[bool]:
        while self.coming:
            yield self.coming.pop(0)
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.log.append("close")


async def after(keeper: ShutdownKeeper, log: list[Any], until: str, times: int = 1) -> None:
    task = asyncio.ensure_future(keeper.run())
    async with asyncio.timeout(5):
        while log.count(until) < times:  # noqa: ASYNC110 - the clock is turned by whoever sleeps
            await asyncio.sleep(0)
    task.cancel()


async def test_a_shutdown_waits_for_pods_lowest_priority_first(tmp_path: Path) -> None:
    clock, log = Turned(1000.0), []  # type: ignore[var-annotated]
    workers = [
        Fake(pod("critical", CRITICAL, terminationGracePeriodSeconds=4), clock, 2.0, log),
        Fake(pod("quick"), clock, 1.0, log),
        Fake(pod("stuck"), clock, 1e9, log),
    ]
    login = Login(log, [True])

    async def connect() -> Login:
        return login

    keeper = ShutdownKeeper(
        World(clock), periods(30, 10, {}), connect, lambda: workers, lambda *w: log.append(w), lambda: log.append("status"), tmp_path
    )  # fmt: skip
    await after(keeper, log, "release")
    assert log[:2] == ["lengthen 30", "hold"]
    assert log[2:4] == [("Normal", "NodeShutdown", "Shutdown manager detected shutdown event"), "status"]
    assert log[4:6] == [("quick", 1000.0, 20.0), ("stuck", 1000.0, 20.0)]
    name, at, grace = log[6]
    assert (name, grace) == ("critical", 4.0) and at == pytest.approx(1020.0, abs=0.2), (
        "a stuck pod takes all its group's time"
    )
    assert log[7] == "release" and keeper.under_way and clock.time == pytest.approx(1022.0, abs=0.3)
    noted = json.loads((tmp_path / "graceful_node_shutdown_state").read_text())
    assert noted == {"startTime": "1970-01-01T00:16:40Z", "endTime": "1970-01-01T00:17:02Z"}


async def test_a_shutdown_that_is_called_off_is_waited_for_again(tmp_path: Path) -> None:
    log: list[Any] = []
    login = Login(log, [True, False], waits=60)

    async def connect() -> Login:
        return login

    keeper = ShutdownKeeper(
        World(Turned()),
        periods(30, 10, {}),
        connect,
        list,
        lambda *w: log.append(w[2]),
        lambda: None,
        tmp_path,
    )
    await after(keeper, log, "hold", 2)
    assert log == [
        "hold", "Shutdown manager detected shutdown event", "release",
        "Shutdown manager detected shutdown cancellation", "hold",
    ] and not keeper.under_way  # fmt: skip


async def test_without_a_login_manager_it_is_off_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def none() -> Login:
        raise OSError("no system bus: /run/dbus/system_bus_socket")

    async def stubborn() -> Login:
        return Login([], [], refuses=True)

    for connect, said in ((none, "off: no system bus"), (stubborn, "off: logind waits for 5s at most")):
        keeper = ShutdownKeeper(
            World(Turned()), periods(30, 10, {}), connect, list, lambda *w: None, lambda: None, tmp_path
        )
        await asyncio.wait_for(keeper.run(), 5)
        assert f"graceful node shutdown is {said}" in caplog.text


def test_the_node_is_not_ready_meanwhile() -> None:
    up = [Condition("RuntimeReady", True, "", ""), Condition("NetworkReady", True, "", "")]
    assert status.ready(up, ["node is shutting down"]) == (False, "KubeletNotReady", "node is shutting down")
    down = [
        Condition("RuntimeReady", True, "", ""),
        Condition("NetworkReady", False, "NetworkPluginNotReady", "no"),
    ]
    text = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no"
    assert status.ready(down) == (False, "KubeletNotReady", text)
    assert status.ready(down, ["node is shutting down"])[2] == f"[{text}, node is shutting down]"
    assert status.ready(None, ()) == (False, "KubeletNotReady", "container runtime is down")
