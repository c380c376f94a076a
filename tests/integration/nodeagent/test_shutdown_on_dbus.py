"""A shutdown of the machine over a real D-Bus daemon, with pods on real containerd. Only the login manager is a stand-in: it
says what logind says and hands out locks that are pipes, as logind's are."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from bamikube.kit.world import World
from bamikube.nodeagent.host.bus import SYSTEMD
from bamikube.nodeagent.shutdown.keeper import ShutdownKeeper
from bamikube.nodeagent.shutdown.logind import LOGIN, Logind
from bamikube.nodeagent.shutdown.plan import MESSAGE, periods
from tests.support.message_bus import PrivateBus

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="no dbus-daemon on this machine")
FOREVER = ["sh", "-c", "trap : TERM; sleep 1000 & wait"]


class StandIn:
    """Inhibit, InhibitDelayMaxUSec and PrepareForShutdown; reads its settings again when systemd is asked to say so."""

    def __init__(self, bus: MessageBus, drop_in: Path) -> None:
        self.bus, self._drop_in, self._seconds = bus, drop_in, 5
        self.locks: list[int] = []  # the ends that we keep: they read as closed once the other side is
        bus.add_message_handler(self._asked)

    async def _hand_out(self, message: Message) -> None:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        await self.bus.send(Message.new_method_return(message, "h", [0], unix_fds=[theirs]))
        os.close(theirs)
        self.locks.append(ours)

    def _asked(self, message: Message) -> Message | bool | None:
        if message.message_type != MessageType.METHOD_CALL:
            return None
        if message.member == "Get":
            return Message.new_method_return(message, "v", [Variant("t", self._seconds * 1_000_000)])
        if message.member == "KillUnit":
            self._seconds = int(self._drop_in.read_text().rpartition("=")[2])
            return Message.new_method_return(message)
        if message.member == "Inhibit":
            assert message.body[0] == "shutdown" and message.body[3] == "delay"
            self._task = asyncio.ensure_future(self._hand_out(message))
            return True
        return None

    async def tell(self, coming: bool) -> None:
        await self.bus.send(Message.new_signal(LOGIN[1], LOGIN[2], "PrepareForShutdown", "b", [coming]))

    def held(self, lock: int) -> bool:
        try:
            return os.read(self.locks[lock], 1) != b""
        except BlockingIOError:
            return True


class Bus(PrivateBus):
    """A D-Bus daemon with the stand-in on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.drop_in = folder / "logind.conf.d/99-kubelet.conf"

    async def start_login(self) -> StandIn:
        return StandIn(await self.start(LOGIN[0], SYSTEMD[0]), self.drop_in)


@pytest.fixture
async def logind(tmp_path: Path) -> AsyncIterator[Bus]:
    bus = Bus(tmp_path)
    yield bus
    await bus.stop()


async def test_pods_end_in_order_before_the_lock_is_given_back(
    node: Any, until: Any, logind: Any, tmp_path: Path
) -> None:
    stand_in = await logind.start_login()
    web = node.run(node.pod("web", {"containers": [{"name": "app", "command": FOREVER}]}))
    last = node.run(
        node.pod("last", {"priority": 2_000_001_000, "containers": [{"name": "app", "command": FOREVER}]})
    )
    await until(lambda: web.status.get("phase") == last.status.get("phase") == "Running")
    told: list[str] = []
    keeper = ShutdownKeeper(
        node.shared.world, periods(30, 10, {}), lambda: Logind.connect(logind.address, logind.drop_in), lambda: [web, last],
        lambda kind, reason, text: told.append(text), lambda: told.append("status"), tmp_path,
    )  # fmt: skip
    task = asyncio.ensure_future(keeper.run())
    try:
        await until(lambda: stand_in.locks)
        assert logind.drop_in.read_text().endswith("[Login]\nInhibitDelayMaxSec=30\n") and stand_in.held(0)
        await stand_in.tell(True)
        await until(lambda: not stand_in.held(0))
        assert not web.state.running() and not last.state.running() and keeper.under_way
        assert told == ["Shutdown manager detected shutdown event", "status"]
        await until(lambda: web.status.get("phase") == last.status.get("phase") == "Failed")
        for worker in (web, last):
            conditions = {c["type"]: c for c in worker.status["conditions"]}
            assert (worker.status["reason"], worker.status["message"]) == ("Terminated", MESSAGE)
            assert conditions["DisruptionTarget"]["reason"] == "TerminationByKubelet"
        ends = [w.status["containerStatuses"][0]["state"]["terminated"]["finishedAt"] for w in (web, last)]
        assert ends == sorted(ends)
        await stand_in.tell(False)
        await until(lambda: len(stand_in.locks) == 2)
        assert stand_in.held(1) and not keeper.under_way
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not stand_in.held(1))


async def test_no_bus_and_no_login_manager_are_told_apart(logind: Any, tmp_path: Path) -> None:
    await logind.start_login()
    with pytest.raises(OSError, match=r"no system bus|No such file"):
        await Logind.connect(f"unix:path={tmp_path}/none")
    with pytest.raises(OSError):
        await Logind.connect("nonsense")
    found = await Logind.connect(logind.address)
    assert await found.delay() == 5.0
    await found.close()


async def test_a_bus_that_ends_is_looked_for_again(logind: Bus, until: Any, tmp_path: Path) -> None:
    first = await logind.start_login()
    keeper = ShutdownKeeper(
        World(), periods(3, 1, {}), lambda: Logind.connect(logind.address, logind.drop_in), list, lambda *_: None, lambda: None, tmp_path
    )  # fmt: skip
    task = asyncio.ensure_future(keeper.run())
    await until(lambda: first.locks and first.held(0))
    await logind.stop()
    await until(lambda: not first.held(0))
    second = await logind.start_login()
    await until(lambda: second.locks and second.held(0))
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not second.held(0))
