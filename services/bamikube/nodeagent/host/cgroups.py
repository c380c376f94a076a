"""The cgroup every pod's containers live in.

Layout, below ``--cgroup-root`` (cgroupfs driver)::

    <root>/kubepods/pod<uid>                 guaranteed
    <root>/kubepods/burstable/pod<uid>
    <root>/kubepods/besteffort/pod<uid>

Burstable pods together weigh what they request together, so that one pod more never takes from those of other classes;
best-effort pods together weigh next to nothing.

With the systemd driver the same tree is named by slices (``kubepods-burstable-pod<uid>.slice``), which systemd makes
when the runtime asks for them. Both cgroup versions are handled: v1 has a hierarchy per controller, v2 has one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from bamikube.api.qos import qos_class
from bamikube.nodeagent.node.reservations import Bounds
from bamikube.nodeagent.pod import facts, qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.placing import UNLIMITED
from bamikube.nodeagent.stats.groups import children

log = logging.getLogger(__name__)

_V1 = ("cpu", "cpuacct", "memory", "pids", "cpuset", "devices", "freezer", "blkio", "hugetlb", "net_cls",
       "perf_event", "net_prio", "systemd", "rdma", "misc", "unified")  # fmt: skip
_V2 = ("cpu", "memory", "pids", "io", "cpuset", "hugetlb")


class Cgroups:
    """Pod cgroups below ``root`` (``/`` or ``/bamikube/worker-1``) made with ``driver`` cgroupfs or systemd.

    A pod may have ``pod_pids`` processes; with 0 or less as many as all pods may have.
    """

    def __init__(
        self,
        root: str,
        driver: str,
        base: Path = Path("/sys/fs/cgroup"),
        pod_pids: int = 0,
        kernel: Kernel | None = None,
    ) -> None:
        self._root = "/" + root.strip("/")
        self._driver = driver
        self._kernel = kernel or Kernel()
        self._base = base
        self._pod_pids = pod_pids
        self._asked: dict[str, int] = {}  # thousandths of a processor that burstable pods request, by uid
        self.alone: Callable[[str], bool] = lambda _uid: False  # whether a pod has processors for itself
        self._burstable = 0  # the shares of all of them, as they were last written
        self.v2 = (base / "cgroup.controllers").exists()
        self._found: list[Path] = []  # the hierarchies, once they have been looked for

    def _hierarchies(self) -> list[Path]:
        if not self._found:
            self._found = self._look()
        return self._found

    def _look(self) -> list[Path]:
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

    def memory_used(self, pod: JSON, container_id: str = "") -> int:
        """Bytes that a pod or one of its containers uses, cached files included; 0 where there is no such cgroup."""
        group, form = children(self.parent(pod), self._driver == "systemd")
        folder = (group + (form.format(container_id) if container_id else "")).lstrip("/")
        name = "memory.current" if self.v2 else "memory/memory.usage_in_bytes"
        tree, _, file = name.rpartition("/")
        text = _text(self._base / tree / folder / file).strip()
        return int(text) if text.isdigit() else 0

    def start(self) -> None:
        """Make the tree above the pods."""
        if self._driver == "systemd":
            return
        for hierarchy in self._hierarchies():
            for part in ("kubepods", "kubepods/burstable", "kubepods/besteffort"):
                self._make(hierarchy, self._root.strip("/") + "/" + part)
        self._weigh("besteffort", qos.MIN_SHARES)

    def _weigh(self, group: str, shares: int) -> None:
        """Give a class of pods its part of the processors."""
        for hierarchy in self._hierarchies():
            for name, text in self._values(hierarchy, {"shares": shares}).items():
                _put(hierarchy / self._root.strip("/") / "kubepods" / group / name, text)

    def _values(self, hierarchy: Path, given: Mapping[str, int]) -> dict[str, str]:
        """The files of a hierarchy and what is to be in them; what is 0 is not given."""
        shares, quota, period = given.get("shares"), given.get("quota"), given.get("period")
        memory, pids = given.get("memory"), given.get("pids")
        cpu: dict[str, str] = {}
        found: dict[str, str] = {}
        if shares:
            cpu |= {"cpu.weight": str(_weight(shares))} if self.v2 else {"cpu.shares": str(shares)}
        if quota:
            v1 = {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(quota)}
            cpu |= {"cpu.max": f"{quota if quota > 0 else 'max'} {period}"} if self.v2 else v1
        if self.v2 or hierarchy.name in ("cpu", "cpu,cpuacct"):
            found |= cpu
        if memory and (self.v2 or hierarchy.name == "memory"):
            found["memory.max" if self.v2 else "memory.limit_in_bytes"] = str(memory)
        if pids and (self.v2 or hierarchy.name == "pids"):
            found["pids.max"] = str(pids)
        return found

    def _make(self, hierarchy: Path, relative: str) -> Path:
        path = hierarchy
        parts = relative.strip("/").split("/")
        above = hierarchy.joinpath(*parts[:-1])
        if above.is_dir():  # as it is for every pod
            path, parts = above, parts[-1:]
        for part in parts:
            path = path / part
            try:
                path.mkdir()
            except FileExistsError:
                continue
            if hierarchy.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    _put(path / name, (path.parent / name).read_text().strip())
            if self.v2:
                there = _text(path.parent / "cgroup.controllers").split()
                wanted = [f"+{name}" for name in _V2 if name in there]
                _put(path.parent / "cgroup.subtree_control", " ".join(wanted))
        return path

    def create(self, pod: JSON) -> None:
        """Make the pod's cgroup and set its limits."""
        if self._driver == "systemd":
            return
        values, huge = qos.pod_cgroup(pod, self._kernel.period), qos.huge_pages(pod["spec"])
        free = not self._kernel.quotas or self.alone(facts.uid(pod))
        given = {
            "shares": values.cpu_shares,
            "quota": UNLIMITED if free else values.cpu_quota,
            "period": values.cpu_period,
            "memory": values.memory_limit,
            "pids": max(0, self._pod_pids),
        }
        for hierarchy in self._hierarchies():
            path = self._make(hierarchy, self.parent(pod))
            for name, text in self._values(hierarchy, given).items():
                _put(path / name, text)
            if not self.v2 and hierarchy.name != "hugetlb":
                continue
            for file in path.glob("hugetlb.*.max" if self.v2 else "hugetlb.*.limit_in_bytes"):
                size = file.name.split(".")[1]
                if ".rsvd." not in file.name:
                    _put(file, str(huge.get(size, 0)))  # none of a size that was not asked for
        if self._group(pod) == "burstable":
            self._asked[facts.uid(pod)] = qos.milli_requested(pod["spec"])
            self._weigh_burstable()

    def _weigh_burstable(self) -> None:
        shares = qos.shares(sum(self._asked.values()))
        if shares != self._burstable:
            self._burstable = shares
            self._weigh("burstable", shares)

    def known(self) -> set[str]:
        """The uids of the pods that have a cgroup."""
        if self._driver == "systemd":
            return set()
        above = [hierarchy / self._root.strip("/") / "kubepods" for hierarchy in self._hierarchies()]
        folders = [folder / group for folder in above for group in ("", "burstable", "besteffort")]
        return {path.name.removeprefix("pod") for folder in folders for path in folder.glob("pod*")}

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

    async def remove(self, uid: str) -> None:
        """Remove the pod's cgroup; processes that are still dying get two seconds."""
        if self._driver == "systemd":
            return
        if self._asked.pop(uid, None) is not None:
            self._weigh_burstable()
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


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _put(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        log.warning("cannot write %r to %s: %s", text, path, error.strerror)
