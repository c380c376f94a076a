"""What a command in a container has left unread of its input, when it has ended.

containerd 1.6 copies the input of ``exec`` into a named pipe whose other end its shim holds open. Once the command has ended nobody
reads that pipe; when it is full the copying waits for ever, and with it the answer with the command's exit status. So what is in
the pipe is read away here, until containerd has seen that there is nobody to copy for.

Commands without input have no such pipe, and later versions of containerd close it themselves: then there is nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

IDLE = 2.0  # seconds without a byte after which nobody is waiting to write
CHUNK = 1 << 16  # bytes: all that a pipe holds


def state_folder(config: str) -> str:
    """Where CRI keeps what does not outlive a reboot, from what it tells of its configuration; "" where it does not tell."""
    try:
        return str(json.loads(config).get("stateDir") or "")
    except ValueError:
        return ""


def pipe_of(state: str, container: str, command: str) -> Path | None:
    """The pipe with the input of a command, by the ids of container and command."""
    with contextlib.suppress(OSError), os.scandir(f"{state}/containers/{container}/io") as folders:
        for folder in folders:
            if (found := Path(folder.path, f"{command}-stdin")).is_fifo():
                return found
    return None


async def read_away(pipe: Path) -> int:
    """Read until nobody writes into the pipe any more. The number of bytes."""
    loop, readable, total = asyncio.get_running_loop(), asyncio.Event(), 0
    try:
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # containerd has taken it away
        return 0
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            async with asyncio.timeout(IDLE):
                await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                if not (data := os.read(descriptor, CHUNK)):
                    return total
                total += len(data)
    except TimeoutError:
        return total
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
