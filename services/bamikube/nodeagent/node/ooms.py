"""What the kernel says when it kills for memory, and the event about it when it was the whole machine's that ran out.

A kill is told in a few lines of the kernel's log::

    stress invoked oom-killer: gfp_mask=0x140dca(...), order=0, oom_score_adj=999
    oom-kill:constraint=CONSTRAINT_MEMCG,...,oom_memcg=/kubepods/pod1,task_memcg=/kubepods/pod1/c1,task=stress,pid=4711,uid=0
    Memory cgroup out of memory: Killed process 4711 (stress) total-vm:...

Without ``oom_memcg`` it is nobody's limit but the machine's end. Kills within a container's limit are told by its status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

KMSG = Path("/dev/kmsg")
MACHINE = "/"
_RECORD = 8192  # bytes: the kernel's largest
_LIMITED = re.compile(r"oom-kill:constraint=.*,oom_memcg=([^,]*),task_memcg=")
_KILLED = re.compile(r"Killed process (\d+) \((.+)\)")


@dataclass(frozen=True, slots=True)
class Kill:
    """``cgroup``: whose limit was reached, ``/`` for the machine's memory as a whole."""

    cgroup: str
    process: str
    pid: int


class Reader:
    """Makes kills of lines."""

    def __init__(self) -> None:
        self._cgroup: str | None = None  # of the kill that is being told; None when none is

    def read(self, line: str) -> Kill | None:
        """The kill that ends with this line."""
        if "invoked oom-killer:" in line:
            self._cgroup = MACHINE
        elif self._cgroup is not None and (limited := _LIMITED.search(line)):
            self._cgroup = limited[1]
        elif self._cgroup is not None and (killed := _KILLED.search(line)):
            cgroup, self._cgroup = self._cgroup, None
            return Kill(cgroup, killed[2], int(killed[1]))
        return None


async def kills(path: Path = KMSG) -> AsyncIterator[Kill]:
    """What is killed from now on. Raises OSError where the log cannot be read."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    more, loop, reader = asyncio.Event(), asyncio.get_running_loop(), Reader()
    loop.add_reader(file, more.set)
    try:
        with contextlib.suppress(OSError):
            os.lseek(file, 0, os.SEEK_END)  # an earlier node agent has told of the rest
        while True:
            await more.wait()
            more.clear()
            for line in _lines(file):
                if (found := reader.read(line)) is not None:
                    yield found
    finally:
        loop.remove_reader(file)
        os.close(file)


def _lines(file: int) -> list[str]:
    """What can be read now: a record is ``priority,number,time,flags;text``, with more about it in further lines."""
    found: list[str] = []
    while True:
        try:
            record = os.read(file, _RECORD)
        except BlockingIOError:
            return found
        except BrokenPipeError:  # the next record has been overwritten meanwhile
            continue
        if not record:
            return found
        lines = record.decode("utf-8", "replace").splitlines()
        found += [line.partition(";")[2] for line in lines if not line.startswith(" ")]


async def watch(event: Callable[[str, str, str], None], path: Path = KMSG) -> None:
    """Tell of every process that is killed because the machine has no memory left."""
    try:
        async for kill in kills(path):
            log.info("out of memory in %s: process %s (%d) is killed", kill.cgroup, kill.process, kill.pid)
            if kill.cgroup == MACHINE:
                text = f"System OOM encountered, victim process: {kill.process}, pid: {kill.pid}"
                event("Warning", "SystemOOM", text)
    except OSError as error:
        log.warning("kills for want of memory are not seen: cannot read %s: %s", path, error.strerror)
