"""Slices, made and changed by systemd over D-Bus (the cgroup driver ``systemd``).

A slice that is there already, from an earlier node agent, is only given its limits. A job of systemd has ended when it says so
(``JobRemoved``); the signal may come before whoever started the job has read its number, so results are kept until they are asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from dbus_fast import Variant

from bamikube.nodeagent.host import slices
from bamikube.nodeagent.host.bus import SYSTEMD, Bus, Refused
from bamikube.nodeagent.host.limits import Limits
from bamikube.nodeagent.host.slices import Property

_ERROR = "org.freedesktop.systemd1."
PATIENCE = 30.0  # seconds a job may take
KEPT = 100  # results of jobs


class Systemd:
    """systemd on the system's bus, or the one at ``address``. All calls raise OSError."""

    def __init__(self, address: str = "", *, v2: bool = True) -> None:
        self._address, self._v2 = address, v2
        self._bus: Bus | None = None
        self._connecting = asyncio.Lock()
        self._version = 0
        self._held: dict[str, list[Property]] = {}  # what slices were told last, by name
        self._results: dict[str, str] = {}  # of jobs that nobody has asked for yet
        self._jobs: dict[str, asyncio.Future[str]] = {}  # that somebody waits for

    async def _connected(self) -> Bus:
        async with self._connecting:
            if self._bus is None or self._bus.ended.done():
                bus = await Bus.connect(self._address)
                await bus.call(SYSTEMD, "Subscribe")
                await bus.listen(SYSTEMD, "JobRemoved", self._removed)
                self._version = slices.version(str(await bus.get(SYSTEMD, "Version")))
                self._bus = bus
            return self._bus

    def _removed(self, said: list[object]) -> None:
        job, result = str(said[1]), str(said[3])
        waiting = self._jobs.pop(job, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)
            return
        self._results[job] = result
        if len(self._results) > KEPT:  # most are other people's
            del self._results[next(iter(self._results))]

    async def _finished(self, job: str) -> str:
        if job in self._results:
            return self._results.pop(job)
        waiting = self._jobs[job] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PATIENCE):
                return await waiting
        except TimeoutError as error:
            raise OSError(f"systemd has not ended {job} in {PATIENCE:.0f}s") from error
        finally:
            self._jobs.pop(job, None)

    async def hold(self, parts: Sequence[str], limits: Limits) -> None:
        """Make the slice of a cgroup, or change its limits."""
        bus, name = await self._connected(), slices.name(parts)
        wanted = slices.properties(limits, self._v2, self._version)
        if self._held.get(name) == wanted:
            return
        if name not in self._held and await self._start(bus, name, parts, limits):
            self._held[name] = wanted
            return
        try:
            await self.change(parts, limits)
        except Refused as error:
            if error.name != f"{_ERROR}NoSuchUnit":
                raise
            await self._start(bus, name, parts, limits)  # somebody has stopped it
        self._held[name] = wanted

    async def change(self, parts: Sequence[str], limits: Limits) -> None:
        """Change the limits of a slice that is there."""
        bus = await self._connected()
        wanted = _variants(slices.properties(limits, self._v2, self._version))
        await bus.call(SYSTEMD, "SetUnitProperties", "sba(sv)", [slices.name(parts), True, wanted])

    async def _start(self, bus: Bus, name: str, parts: Sequence[str], limits: Limits) -> bool:
        """False when it is there already."""
        described = _variants(slices.unit(parts, limits, self._v2, self._version))
        try:
            reply = await bus.call(
                SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "replace", described, []]
            )
        except Refused as error:
            if error.name == f"{_ERROR}UnitExists":
                return False
            raise
        result = await self._finished(str(reply.body[0]))
        if result != "done":
            await self._forget_failure(bus, name)
            raise OSError(f"error creating systemd unit `{name}`: got `{result}`")
        return True

    async def end(self, parts: Sequence[str]) -> None:
        """Stop the slice of a cgroup, and all that is in it; one that there is not is no failure."""
        bus, name = await self._connected(), slices.name(parts)
        self._held.pop(name, None)
        try:
            reply = await bus.call(SYSTEMD, "StopUnit", "ss", [name, "replace"])
            result = await self._finished(str(reply.body[0]))
        except Refused as error:
            if error.name == f"{_ERROR}NoSuchUnit":
                return
            raise
        await self._forget_failure(bus, name)
        if result != "done":
            raise OSError(f"error stopping systemd unit `{name}`: got `{result}`")

    async def _forget_failure(self, bus: Bus, name: str) -> None:
        with contextlib.suppress(Refused):  # it has not failed, or is gone
            await bus.call(SYSTEMD, "ResetFailedUnit", "s", [name])

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.close()


def _variants(properties: Iterable[Property]) -> list[list[object]]:
    return [[name, Variant(signature, value)] for name, signature, value in properties]
