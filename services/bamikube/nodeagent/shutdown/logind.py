"""systemd's login manager over D-Bus: it tells of a shutdown, and waits with it for as long as somebody holds a lock.

The lock is a file descriptor; closing it lets the shutdown go on. How long logind waits at most is its own setting
(``InhibitDelayMaxSec``), which is raised by a drop-in file where it is too short.

Source: "Inhibitor Locks" and org.freedesktop.login1 of systemd.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from bamikube.nodeagent.host.bus import SYSTEMD, Bus

LOGIN = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
DROP_IN = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
RELOAD = 2.0  # seconds logind is given to read its settings again


class Logind:
    """A connection to the system bus. All calls raise OSError when logind cannot be asked or refuses."""

    def __init__(self, bus: Bus, drop_in: Path = DROP_IN) -> None:
        self._bus, self._drop_in = bus, drop_in
        self._lock: int | None = None
        self._signals: asyncio.Queue[bool | None] = asyncio.Queue()  # None: the connection has ended
        bus.ended.add_done_callback(lambda _: self._signals.put_nowait(None))

    @classmethod
    async def connect(cls, address: str = "", drop_in: Path = DROP_IN) -> Logind:
        """To the system's bus, or the one at ``address``. Raises OSError when there is none."""
        bus = await Bus.connect(address)
        found = cls(bus, drop_in)
        await bus.listen(LOGIN, "PrepareForShutdown", found._heard)
        return found

    def _heard(self, said: list[bool]) -> None:
        if said:
            self._signals.put_nowait(bool(said[0]))

    async def delay(self) -> float:
        """How many seconds logind waits at most."""
        return float(await self._bus.get(LOGIN, "InhibitDelayMaxUSec")) / 1e6

    async def lengthen(self, seconds: float) -> None:
        """Have logind wait for so long at most."""
        self._drop_in.parent.mkdir(parents=True, exist_ok=True)
        self._drop_in.write_text(f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds:.0f}\n")
        await self._bus.call(SYSTEMD, "KillUnit", "ssi", ["systemd-logind.service", "all", 1])
        until = asyncio.get_running_loop().time() + RELOAD
        while (found := await self.delay()) < seconds:
            if asyncio.get_running_loop().time() >= until:
                raise OSError(
                    f"logind waits for {found:g}s at most and does not take over {seconds:g}s from {self._drop_in}; "
                    "set InhibitDelayMaxSec in logind.conf"
                )
            await asyncio.sleep(0.1)

    async def hold(self) -> None:
        """Take the lock: from now on a shutdown waits for us."""
        what = ["shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"]
        reply = await self._bus.call(LOGIN, "Inhibit", "ssss", what)
        self.release()
        self._lock = os.dup(reply.unix_fds[reply.body[0]])
        for fd in reply.unix_fds:
            os.close(fd)

    def release(self) -> None:
        """Let the shutdown go on."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def events(self) -> AsyncIterator[bool]:
        """True when the machine is about to go down, False when it stays after all; ends with the connection."""
        while (event := await self._signals.get()) is not None:
            yield event

    async def close(self) -> None:
        self.release()
        await self._bus.close()
