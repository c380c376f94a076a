"""The system's D-Bus: calls that fail as OSError, whatever the reason, and signals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

Whom = tuple[str, str, str]  # a name on the bus, a path of its objects, one of their interfaces
SYSTEMD: Whom = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS: Whom = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
PATIENCE = 10.0  # seconds an answer is waited for


class Refused(OSError):
    """The other side says no; ``name`` is the name of its error."""

    def __init__(self, member: str, name: str, said: str) -> None:
        super().__init__(f"{member}: {name}: {said}")
        self.name = name


class Bus:
    """A connection."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.ended = asyncio.ensure_future(self._disconnected())  # done when the connection is gone

    @classmethod
    async def connect(cls, address: str = "") -> Bus:
        """To the system's bus, or the one at ``address``. Raises OSError when there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                bus = MessageBus(address or None, BusType.SYSTEM, negotiate_unix_fd=True)
                return cls(await bus.connect())
        except OSError:
            raise
        except Exception as error:  # the library has many ways to say that there is no bus
            raise OSError(f"no system bus: {error}") from error

    async def _disconnected(self) -> None:
        with contextlib.suppress(Exception):  # why it ended is of no use
            await self._bus.wait_for_disconnect()

    async def call(self, whom: Whom, member: str, signature: str = "", body: Sequence[Any] = ()) -> Message:
        """The answer. Raises OSError (Refused where there was one)."""
        message = Message(
            destination=whom[0],
            path=whom[1],
            interface=whom[2],
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await self._bus.call(message)
        except (DBusError, EOFError, TimeoutError) as error:
            raise OSError(f"{member}: {error or 'no answer'}") from error
        if reply is None:
            raise OSError(member)
        if reply.message_type == MessageType.ERROR:
            raise Refused(member, reply.error_name or "", ", ".join(map(str, reply.body)))
        return reply

    async def get(self, whom: Whom, name: str) -> Any:
        """A property. Raises OSError."""
        properties = (whom[0], whom[1], "org.freedesktop.DBus.Properties")
        return (await self.call(properties, "Get", "ss", [whom[2], name])).body[0].value

    async def listen(self, whom: Whom, signal: str, heard: Callable[[list[Any]], None]) -> None:
        """Call ``heard`` with what each such signal says. Raises OSError."""

        def look(message: Message) -> None:
            if message.message_type == MessageType.SIGNAL and message.member == signal:
                heard(message.body)

        self._bus.add_message_handler(look)
        rule = f"type='signal',interface='{whom[2]}',member='{signal}',path='{whom[1]}'"
        await self.call(_BUS, "AddMatch", "s", [rule])

    async def close(self) -> None:
        self._bus.disconnect()
        await asyncio.wait({self.ended}, timeout=1.0)
