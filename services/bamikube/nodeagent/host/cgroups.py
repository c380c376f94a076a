"""The cgroup every pod's containers live in.

Layout, below ``--cgroup-root`` (cgroupfs driver)::

    <root>/kubepods/pod<uid>                 guaranteed
    <root>/kubepods/burstable/pod<uid>
    <root>/kubepods/besteffort/pod<uid>

With the systemd driver the same tree is named by slices (``kubepods-burstable-pod<uid>.slice``), which systemd makes
when the runtime asks for them. Both cgroup versions are handled: v1 has a hierarchy per controller, v2 has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from bamikube.api.qos import qos_class
from bamikube.nodeagent.node.reservations import Bounds
from bamikube.nodeagent.pod import facts, qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Resources

log = logging.getLogger(__name__)

_V1 = ("cpu", "cpuacct", "memory", "pids", "cpuset", "devices", "freezer", "blkio", "hugetlb", "net_cls",
       "perf_event", "net_prio", "systemd", "rdma", "misc", "unified")  # fmt: skip


class Cgroups:
    """Pod cgroups below ``root`` (``/`` or ``/bamikube/worker-1``) made with ``driver`` cgroupfs or systemd."""

    def __init__(self, root: str, driver: str, base: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = "/" + root.strip("/")
        self._driver = driver
        self._base = base
        self.v2 = (base / "cgroup.controllers").exists()

    def _hierarchies(self) -> list[Path]:
        if self.v2:
            return [self._base]
        found = {}
        for name in _V1:
            path = self._base / name
            if path.is_dir():
                found[path.resolve()] = path
        return list(found.values())

    def _group(self, pod: JSON) -> str:
        kind = qos_class(pod["spec"])
        return "" if kind == "Guaranteed" else kind.lower()

    def parent(self, pod: JSON) -> str:
        """The name the runtime is given as cgroup parent."""
        group, uid = self._group(pod), facts.uid(pod)
        if self._driver == "systemd":
            stem = "-".join(part for part in ("kubepods", group) if part)
            return f"{stem}-pod{uid.replace('-', '_')}.slice"
        return "/".join(
            part for part in (self._root.rstrip("/"), "kubepods", group, f"pod{uid}") if part or part == ""
        )

    def start(self) -> None:
        """Make the tree above the pods."""
        if self._driver == "systemd":
            return
        for hierarchy in self._hierarchies():
            for part in ("kubepods", "kubepods/burstable", "kubepods/besteffort"):
                self._make(hierarchy, self._root.strip("/") + "/" + part)

    def _make(self, hierarchy: Path, relative: str) -> Path:
        path = hierarchy
        for part in relative.strip("/").split("/"):
            path = path / part
            if path.is_dir():
                continue
            with contextlib.suppress(FileExistsError):
                path.mkdir()
            if hierarchy.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    _put(path / name, (path.parent / name).read_text().strip())
            if self.v2:
                _put(path.parent / "cgroup.subtree_control", "+cpu +memory +pids +io +cpuset")
        return path

    def create(self, pod: JSON) -> None:
        """Make the pod's cgroup and set its limits."""
        if self._driver == "systemd":
            return
        values = qos.pod_cgroup(pod)
        for hierarchy in self._hierarchies():
            path = self._make(hierarchy, self.parent(pod))
            if self.v2:
                self._limit_v2(path, values)
            elif hierarchy.name in ("cpu", "cpu,cpuacct"):
                _put(path / "cpu.shares", str(values.cpu_shares))
                if values.cpu_quota:
                    _put(path / "cpu.cfs_period_us", str(values.cpu_period))
                    _put(path / "cpu.cfs_quota_us", str(values.cpu_quota))
            elif hierarchy.name == "memory" and values.memory_limit:
                _put(path / "memory.limit_in_bytes", str(values.memory_limit))

    def bound_pods(self, bounds: Bounds) -> None:
        """Bind all pods together to so much. Raises OSError; systemd's slices are left as they are."""
        if self._driver == "systemd":
            log.warning("pods as a whole are not bound to what the node may give: systemd owns their cgroups")
            return
        self.bound(f"{self._root.rstrip('/')}/kubepods", bounds)

    def bound(self, group: str, bounds: Bounds) -> None:
        """Bind a cgroup, which has to be there, to so much. Raises OSError."""
        shares, memory, pids = bounds.shares, bounds.memory, bounds.pids
        v1 = {
            "cpu": {"cpu.shares": shares},
            "cpu,cpuacct": {"cpu.shares": shares},
            "memory": {"memory.limit_in_bytes": memory},
            "pids": {"pids.max": pids},
        }
        weight = _weight(shares) if shares is not None else None
        v2 = {"cpu.weight": weight, "memory.max": memory, "pids.max": pids}
        for hierarchy in self._hierarchies():
            folder = hierarchy / group.strip("/")
            for name, value in (v2 if self.v2 else v1.get(hierarchy.name, {})).items():
                if value is not None:
                    (folder / name).write_text(str(value))

    def _limit_v2(self, path: Path, values: Resources) -> None:
        _put(path / "cpu.weight", str(_weight(values.cpu_shares)))
        if values.cpu_quota:
            _put(path / "cpu.max", f"{values.cpu_quota} {values.cpu_period}")
        if values.memory_limit:
            _put(path / "memory.max", str(values.memory_limit))

    async def remove(self, uid: str) -> None:
        """Remove the pod's cgroup; processes that are still dying get two seconds."""
        if self._driver == "systemd":
            return
        base = self._root.strip("/")
        for hierarchy in self._hierarchies():
            for group in ("", "burstable", "besteffort"):
                path = hierarchy / base / "kubepods" / group / f"pod{uid}"
                for _ in range(20):
                    if not path.is_dir():
                        break
                    try:
                        for child in sorted(path.rglob("*"), key=lambda p: len(p.parts), reverse=True):
                            if child.is_dir():
                                child.rmdir()
                        path.rmdir()
                    except OSError:
                        await asyncio.sleep(0.1)
                else:
                    if path.is_dir():
                        log.warning("cgroup %s cannot be removed yet: it still holds processes", path)


def _weight(shares: int) -> int:
    """CPU shares as version 2 counts them."""
    return 1 + ((shares - 2) * 9999) // 262142


def _put(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        log.warning("cannot write %r to %s: %s", text, path, error.strerror)
