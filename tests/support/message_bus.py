"""A D-Bus daemon of the test's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dbus_fast.aio import MessageBus

CONFIG = """<busconfig><type>custom</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""


class PrivateBus:
    """The daemon at ``address``, with its files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.address, self._folder = f"unix:path={folder}/bus", folder

    async def start(self, *names: str) -> MessageBus:
        """Start it, and connect to it as the owner of ``names``."""
        config, socket = self._folder / "bus.conf", self._folder / "bus"
        config.write_text(CONFIG.format(socket))
        socket.unlink(missing_ok=True)
        self._daemon = await asyncio.create_subprocess_exec(
            "dbus-daemon", f"--config-file={config}", "--nofork"
        )
        async with asyncio.timeout(10):
            while not socket.exists():  # noqa: ASYNC110 - a poll is all a test needs
                await asyncio.sleep(0.02)
        bus = await MessageBus(self.address, negotiate_unix_fd=True).connect()
        for name in names:
            await bus.request_name(name)
        return bus

    async def stop(self) -> None:
        self._daemon.terminate()
        await self._daemon.wait()
