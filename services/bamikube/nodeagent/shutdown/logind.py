"""systemd's login manager over D-Bus: it tells of a shutdown, and waits with it for as long as somebody holds a lock.

The lock is a file descriptor; closing it lets the shutdown go on. How long logind waits at most is its own setting
(``InhibitDelayMaxSec``), which is raised by a drop-in file where it is too short.

Source: "Inhibitor Locks" and org.freedesktop.login1 of systemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

LOGIN = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
DROP_IN = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
RELOAD = 2.0  # seconds logind is given to read its settings again
PATIENCE = 10.0  # seconds an answer is waited for


class Logind:
    """A connection to the system bus. All calls raise OSError when logind cannot be asked or refuses."""

    def __init__(self, bus: MessageBus, drop_in: Path = DROP_IN) -> None:
        self._bus, self._drop_in = bus, drop_in
        self._lock: int | None = None
        self._signals: asyncio.Queue[bool | None] = asyncio.Queue()  # None: the connection has ended
        self._watch = asyncio.ensure_future(self._disconnected())

    @classmethod
    async def connect(cls, address: str = "", drop_in: Path = DROP_IN) -> Logind:
        """To the system's bus, or the one at ``address``. Raises OSError when there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                bus = MessageBus(address or None, BusType.SYSTEM, negotiate_unix_fd=True)
                found = cls(await bus.connect(), drop_in)
                found._bus.add_message_handler(found._heard)
                rule = f"type='signal',interface='{LOGIN[2]}',member='PrepareForShutdown',path='{LOGIN[1]}'"
                await found._call(BUS, "AddMatch", "s", [rule])
        except OSError:
            raise
        except Exception as error:  # the library has many ways to say that there is no bus
            raise OSError(f"no system bus: {error}") from error
        return found

    async def _disconnected(self) -> None:
        with contextlib.suppress(Exception):  # why it ended is of no use
            await self._bus.wait_for_disconnect()
        self._signals.put_nowait(None)

    async def _call(
        self, whom: tuple[str, str, str], member: str, signature: str, body: list[Any]
    ) -> Message:
        message = Message(
            destination=whom[0],
            path=whom[1],
            interface=whom[2],
            member=member,
            signature=signature,
            body=body,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await self._bus.call(message)
        except (DBusError, EOFError, TimeoutError) as error:
            raise OSError(f"{member}: {error or 'no answer'}") from error
        if reply is None or reply.message_type == MessageType.ERROR:
            raise OSError(
                f"{member}: {reply.error_name}: {', '.join(map(str, reply.body))}" if reply else member
            )
        return reply

    def _heard(self, message: Message) -> None:
        if (
            message.message_type == MessageType.SIGNAL
            and message.member == "PrepareForShutdown"
            and message.body
        ):
            self._signals.put_nowait(bool(message.body[0]))

    async def delay(self) -> float:
        """How many seconds logind waits at most."""
        whom = (LOGIN[0], LOGIN[1], "org.freedesktop.DBus.Properties")
        reply = await self._call(whom, "Get", "ss", [LOGIN[2], "InhibitDelayMaxUSec"])
        return float(reply.body[0].value) / 1e6

    async def lengthen(self, seconds: float) -> None:
        """Have logind wait for so long at most."""
        self._drop_in.parent.mkdir(parents=True, exist_ok=True)
        self._drop_in.write_text(f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds:.0f}\n")
        await self._call(SYSTEMD, "KillUnit", "ssi", ["systemd-logind.service", "all", 1])
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
        reply = await self._call(LOGIN, "Inhibit", "ssss", what)
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
        self._bus.disconnect()
        await asyncio.wait({self._watch}, timeout=1.0)
