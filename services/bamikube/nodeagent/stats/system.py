"""The node agent's and the runtime's own processes, as the summary's system containers; when the machine started."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.stats.groups import TICK

_PAGE = os.sysconf("SC_PAGE_SIZE")


def booted(stat: str) -> float:
    """When the machine started, from ``/proc/stat``. Pure."""
    return next((float(line.split()[1]) for line in stat.splitlines() if line.startswith("btime ")), 0.0)


def limits() -> JSON:
    """How many processes there may be and are."""
    threads = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    everywhere = int(Path("/proc/sys/kernel/threads-max").read_text())
    return {"maxpid": min(most, everywhere), "curproc": threads}


def listener(path: str) -> int:
    """The process behind a unix socket, 0 when nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1.0)
            probe.connect(path)
            return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
        except OSError:
            return 0


@dataclass(frozen=True, slots=True)
class Spent:
    """A process' figures: nanoseconds of CPU, bytes, faults, start in ticks after boot."""

    cpu: int
    memory: int
    faults: int
    major: int
    started: int


def spent(stat: str) -> Spent:
    """``/proc/<pid>/stat``, whose second word may hold anything but ends with the last bracket. Pure."""
    words = stat.rpartition(")")[2].split()
    cpu = (int(words[11]) + int(words[12])) * TICK
    return Spent(cpu, int(words[21]) * _PAGE, int(words[7]), int(words[9]), int(words[19]))


@dataclass(slots=True)
class Systems:
    """The parts called ``kubelet`` and ``runtime``; a rate is what lies between two questions."""

    socket: str  # where the runtime listens
    booted: float = field(default_factory=lambda: booted(Path("/proc/stat").read_text()))
    _before: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    def parts(self, now: float) -> list[JSON]:
        found = []
        for name, pid in (("kubelet", os.getpid()), ("runtime", listener(self.socket))):
            try:
                figures = spent(Path(f"/proc/{pid}/stat").read_text())
            except OSError:
                continue
            found.append(self._part(name, figures, now))
        return found

    def _part(self, name: str, figures: Spent, now: float) -> JSON:
        started = self.booted + figures.started / 100
        then, cpu, rate = self._before.get(name, (started, 0, 0))
        if now - then >= 1.0:
            rate = max(0, int((figures.cpu - cpu) / (now - then)))
            self._before[name] = (now, figures.cpu, rate)
        time = rfc3339(now)
        return {
            "name": name,
            "startTime": rfc3339(started),
            "cpu": {"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": figures.cpu},
            "memory": {
                "time": time,
                "usageBytes": figures.memory,
                "workingSetBytes": figures.memory,
                "rssBytes": figures.memory,
                "pageFaults": figures.faults,
                "majorPageFaults": figures.major,
            },
        }
