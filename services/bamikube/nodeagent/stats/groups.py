"""What one cgroup has used, read from its files; version 1 (a tree for each controller) and version 2 (one tree).

The working set is what the kernel could not take back at once: use without the file pages that nobody touched lately.
A file that is not there counts as zero; a cgroup that is not there is None.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bamikube.nodeagent.node.facts import meminfo
from bamikube.nodeagent.stats import processes

TICK = 10_000_000  # nanoseconds of a USER_HZ tick
_MOST = 16 * 1024  # bytes read at once
_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio")
_NO_LIMIT = 1 << 62  # what a version 1 cgroup without a limit says is about that


@dataclass(frozen=True, slots=True)
class Stall:
    """How long tasks waited: microseconds in all, and the share of the last seconds in percent."""

    total: int
    avg10: float
    avg60: float
    avg300: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """Waiting for ``cpu``, ``memory`` or ``io``: of some tasks, and of all at once."""

    kind: str
    some: Stall
    full: Stall


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What was read from and written to a block device, ``8:0``."""

    device: str
    read_bytes: int
    written_bytes: int
    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Cumulative CPU in nanoseconds, memory in bytes; 0 where this very group has no limit. The second half is read on demand."""

    time: float
    cpu: int = 0
    memory: int = 0
    working_set: int = 0
    rss: int = 0
    swap: int = 0
    limit: int = 0
    page_faults: int = 0
    major_faults: int = 0
    swap_limit: int = 0

    user: int = 0
    system: int = 0
    periods: int = 0
    throttled: int = 0
    throttled_time: int = 0  # nanoseconds
    shares: int = 0
    quota: int = 0
    period: int = 0
    cache: int = 0
    mapped: int = 0
    kernel: int = 0
    peak: int = 0
    failures: int = 0  # how often the limit was hit
    reservation: int = 0
    oom_kills: int = 0
    processes: tuple[int, ...] = ()
    threads: int = 0
    threads_max: int = 0
    descriptors: int = 0
    sockets: int = 0
    open_files: int | None = None  # how many the first process may have; -1: as many as it likes
    devices: tuple[DeviceUse, ...] = ()
    pressure: tuple[Pressure, ...] = ()  # version 2 only


class Groups:
    """The cgroups of this machine below ``base``."""

    def __init__(self, base: Path = Path("/sys/fs/cgroup"), proc: str = "/proc") -> None:
        self._base, self._proc = base, proc
        self.v2 = (base / "cgroup.controllers").exists()

    def read(self, group: str, now: float, detailed: bool = False) -> Figures | None:
        """The figures of ``/kubepods/burstable/pod.../<id>``, None when there is no such cgroup."""
        relative = group.strip("/")
        if self.v2:
            folder = f"{self._base}/{relative}"
            if not os.path.isdir(folder):
                return None
            found = _read_v2(folder, now, detailed, 0 if relative else self._machine_use())
        else:
            folders = {name: f"{self._base}/{name}/{relative}" for name in _CONTROLLERS}
            if not os.path.isdir(folders["memory"]):
                return None
            found = _read_v1(folders, now, detailed)
        if not (found.processes and relative):
            return found
        descriptors, sockets = processes.opened(found.processes, self._proc)
        most = processes.most_open_files(found.processes[0], self._proc)
        return replace(found, descriptors=descriptors, sockets=sockets, open_files=most)

    def _machine_use(self) -> int:
        """What the machine uses of its memory: the root of version 2 does not say, and its parts leave the kernel's own out."""
        found = meminfo()
        return found.get("MemTotal", 0) - found.get("MemFree", 0)

    def processes(self, group: str) -> tuple[int, ...]:
        """The processes of exactly this cgroup."""
        hierarchy = self._base if self.v2 else self._base / "memory"
        return _processes(f"{hierarchy}/{group.strip('/')}")


def children(parent: str, systemd: bool) -> tuple[str, str]:
    """Where the cgroup of a pod lies that the runtime knows as ``parent``, and the form of its containers' paths.

    >>> children("kubepods-burstable-pod1_2.slice", True)
    ('/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice', '/cri-containerd-{}.scope')
    """
    if not systemd:
        return parent, "/{}"
    words = parent.removesuffix(".slice").split("-")
    path = "".join(f"/{'-'.join(words[: n + 1])}.slice" for n in range(len(words)))
    return path, "/cri-containerd-{}.scope"


def _read_v1(folders: dict[str, str], now: float, detailed: bool) -> Figures:
    memory = folders["memory"]
    stat = _table(f"{memory}/memory.stat")
    used = _number(f"{memory}/memory.usage_in_bytes")
    basic: dict[str, Any] = {
        "cpu": _number(f"{folders['cpuacct']}/cpuacct.usage"),
        "memory": used,
        "working_set": max(0, used - stat.get("total_inactive_file", 0)),
        "rss": stat.get("total_rss", 0),
        "swap": stat.get("total_swap", 0),
        "limit": _limit(_number(f"{memory}/memory.limit_in_bytes")),
        "page_faults": stat.get("total_pgfault", 0),
        "major_faults": stat.get("total_pgmajfault", 0),
        "swap_limit": _limit(_number(f"{memory}/memory.memsw.limit_in_bytes")),
    }
    if not detailed:
        return Figures(now, **basic)
    cpu, spent = _table(f"{folders['cpu']}/cpu.stat"), _table(f"{folders['cpuacct']}/cpuacct.stat")
    return Figures(
        now,
        **basic,
        user=spent.get("user", 0) * TICK,
        system=spent.get("system", 0) * TICK,
        periods=cpu.get("nr_periods", 0),
        throttled=cpu.get("nr_throttled", 0),
        throttled_time=cpu.get("throttled_time", 0),
        shares=_number(f"{folders['cpu']}/cpu.shares"),
        quota=max(0, _number(f"{folders['cpu']}/cpu.cfs_quota_us")),
        period=_number(f"{folders['cpu']}/cpu.cfs_period_us"),
        cache=stat.get("total_cache", 0),
        mapped=stat.get("total_mapped_file", 0),
        kernel=_number(f"{memory}/memory.kmem.usage_in_bytes"),
        peak=_number(f"{memory}/memory.max_usage_in_bytes"),
        failures=_number(f"{memory}/memory.failcnt"),
        reservation=_limit(_number(f"{memory}/memory.soft_limit_in_bytes")),
        oom_kills=_table(f"{memory}/memory.oom_control").get("oom_kill", 0),
        processes=_processes(memory),
        threads=_number(f"{folders['pids']}/pids.current"),
        threads_max=_number(f"{folders['pids']}/pids.max"),
        devices=_devices_v1(folders["blkio"]),
    )


def _read_v2(folder: str, now: float, detailed: bool, used: int = 0) -> Figures:
    """``used``: memory, where the group itself does not say."""
    stat, cpu = _table(f"{folder}/memory.stat"), _table(f"{folder}/cpu.stat")
    used = _number(f"{folder}/memory.current") or used
    swap = _number(f"{folder}/memory.swap.current")
    limit = _number(f"{folder}/memory.max")
    most_swap = f"{folder}/memory.swap.max"
    basic: dict[str, Any] = {
        "cpu": cpu.get("usage_usec", 0) * 1000,
        "memory": used,
        "working_set": max(0, used - stat.get("inactive_file", 0)),
        "rss": stat.get("anon", 0),
        "swap": swap,
        "limit": limit,
        "page_faults": stat.get("pgfault", 0),
        "major_faults": stat.get("pgmajfault", 0),
        "swap_limit": limit + _number(most_swap) if limit and _words(most_swap)[:1] != ["max"] else 0,
    }
    if not detailed:
        return Figures(now, **basic)
    quota, period = (*_words(f"{folder}/cpu.max"), "", "")[:2]
    events = _table(f"{folder}/memory.events")
    weight = _number(f"{folder}/cpu.weight")
    return Figures(
        now,
        **basic,
        user=cpu.get("user_usec", 0) * 1000,
        system=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled=cpu.get("nr_throttled", 0),
        throttled_time=cpu.get("throttled_usec", 0) * 1000,
        shares=2 + ((weight - 1) * 262142) // 9999 if weight else 0,
        quota=int(quota) if quota.isdigit() else 0,
        period=int(period) if period.isdigit() else 0,
        cache=stat.get("file", 0),
        mapped=stat.get("file_mapped", 0),
        kernel=stat.get("kernel", 0),
        peak=_number(f"{folder}/memory.peak"),
        failures=events.get("max", 0),
        reservation=_number(f"{folder}/memory.low"),
        oom_kills=events.get("oom_kill", 0),
        processes=_processes(folder),
        threads=_number(f"{folder}/pids.current"),
        threads_max=_number(f"{folder}/pids.max"),
        devices=_devices_v2(f"{folder}/io.stat"),
        pressure=_pressure(folder),
    )


def _devices_v1(folder: str) -> tuple[DeviceUse, ...]:
    """Lines ``8:0 Read 4096`` of two files."""
    found: dict[str, dict[str, int]] = {}
    for file, kind in (("io_service_bytes", "bytes"), ("io_serviced", "times")):
        words = _words(f"{folder}/blkio.throttle.{file}_recursive")
        for device, what, value in zip(words[::3], words[1::3], words[2::3], strict=False):
            if ":" in device and what in ("Read", "Write"):
                found.setdefault(device, {})[f"{what} {kind}"] = int(value)
    names = ("Read bytes", "Write bytes", "Read times", "Write times")
    return tuple(DeviceUse(d, *(values.get(name, 0) for name in names)) for d, values in found.items())


def _devices_v2(path: str) -> tuple[DeviceUse, ...]:
    """Lines ``8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...``."""
    found = []
    for line in _text(path).splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        names = ("rbytes", "wbytes", "rios", "wios")
        found.append(DeviceUse(device, *(int(values.get(name, 0)) for name in names)))
    return tuple(found)


def _pressure(folder: str) -> tuple[Pressure, ...]:
    """Lines ``some avg10=0.00 avg60=0.00 avg300=0.00 total=0`` and ``full ...``."""
    found = []
    for kind in ("cpu", "memory", "io"):
        stalls = {}
        for line in _text(f"{folder}/{kind}.pressure").splitlines():
            whose, *pairs = line.split()
            values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            shares = (float(values.get(name, 0)) for name in ("avg10", "avg60", "avg300"))
            stalls[whose] = Stall(int(values.get("total", 0)), *shares)
        if "some" in stalls:
            found.append(Pressure(kind, stalls["some"], stalls.get("full", Stall(0, 0.0, 0.0, 0.0))))
    return tuple(found)


def _text(path: str) -> str:
    """A file's text, empty for no file. Hundreds are read at once, so by system calls: three times as fast."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        data = os.read(file, _MOST)
        while len(data) % _MOST == 0 and (more := os.read(file, _MOST)):
            data += more
    except OSError:
        return ""
    finally:
        os.close(file)
    return data.decode("ascii", "replace")


def _words(path: str) -> list[str]:
    return _text(path).split()


def _number(path: str) -> int:
    """The number a file holds; 0 for ``max`` and for no file."""
    words = _words(path)
    return int(words[0]) if words and words[0].lstrip("-").isdigit() else 0


def _table(path: str) -> dict[str, int]:
    """Lines of a name and a number."""
    words = _words(path)
    return {name: int(value) for name, value in _pairs(words) if value.isdigit()}


def _pairs(words: list[str]) -> Iterable[tuple[str, str]]:
    return zip(words[::2], words[1::2], strict=False)


def _limit(value: int) -> int:
    return 0 if value >= _NO_LIMIT else value


def _processes(folder: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _words(f"{folder}/cgroup.procs"))
