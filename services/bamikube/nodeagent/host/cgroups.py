"""The cgroup every pod's containers live in.

Layout, below ``--cgroup-root`` (cgroupfs driver)::

    <root>/kubepods/pod<uid>                 guaranteed
    <root>/kubepods/burstable/pod<uid>
    <root>/kubepods/besteffort/pod<uid>

Burstable pods together weigh what they request together, so that one pod more never takes from those of other classes;
best-effort pods together weigh next to nothing.

With the systemd driver the same tree is made of slices (:mod:`.slices`) by systemd, which knows their limits, too; the files are written
all the same, as systemd knows nothing of huge pages and may be late. Both cgroup versions are handled: v1 has a hierarchy per
controller, v2 has one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bamikube.api.qos import qos_class
from bamikube.nodeagent.host import limits, slices
from bamikube.nodeagent.host.limits import Limits
from bamikube.nodeagent.host.port import CgroupFailure
from bamikube.nodeagent.node.reservations import Bounds, processors
from bamikube.nodeagent.pod import facts, qos
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.placing import UNLIMITED
from bamikube.nodeagent.stats.groups import children

if TYPE_CHECKING:
    from bamikube.nodeagent.host.systemd import Systemd

log = logging.getLogger(__name__)

_V1 = ("cpu", "cpuacct", "memory", "pids", "cpuset", "devices", "freezer", "blkio", "hugetlb", "net_cls",
       "perf_event", "net_prio", "systemd", "rdma", "misc", "unified")  # fmt: skip
_DEMANDED = ("cpu", "cpuacct", "cpu,cpuacct", "cpuset", "memory", "systemd", "pids", "hugetlb")
_V2 = ("cpu", "memory", "pids", "io", "cpuset", "hugetlb")
_CLASSES = ("", "burstable", "besteffort")
SYSTEMD, CGROUPFS = "systemd", "cgroupfs"

Parts = tuple[str, ...]


class Cgroups:
    """Pod cgroups below ``root`` (``/`` or ``/bamikube/worker-1``) made with ``driver`` cgroupfs or systemd.

    A pod may have ``pod_pids`` processes; with 0 or less as many as all pods may have. ``bus``: where systemd is, if not on the
    system's bus.
    """

    def __init__(
        self,
        root: str,
        driver: str,
        base: Path = Path("/sys/fs/cgroup"),
        pod_pids: int = 0,
        kernel: Kernel | None = None,
        bus: str = "",
    ) -> None:
        self.driver = driver  # may be chosen anew until the start
        self._root: Parts = tuple(part for part in root.split("/") if part)
        self._kernel = kernel or Kernel()
        self._base = base
        self._pod_pids = pod_pids
        self._asked: dict[str, int] = {}  # thousandths of a processor that burstable pods request, by uid
        self.alone: Callable[[str], bool] = lambda _uid: False  # whether a pod has processors for itself
        self._burstable = 0  # the shares of all of them, as they were last written
        self.v2 = (base / "cgroup.controllers").exists()
        self._found: list[Path] = []  # the hierarchies, once they have been looked for
        self._bus = bus
        self._systemd: Systemd | None = None  # once it has been needed

    def _slices(self) -> Systemd:
        from bamikube.nodeagent.host.systemd import Systemd  # a megabyte that few nodes need

        if self._systemd is None:
            self._systemd = Systemd(self._bus, v2=self.v2)
        return self._systemd

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
        mounted = [path for path in found.values() if path.resolve().is_mount()]
        return mounted or list(found.values())  # a folder for a controller that there is not is none

    # -- names -------------------------------------------------------------------------------------------------

    def _class(self, kind: str) -> Parts:
        return (*self._root, "kubepods", *filter(None, (kind,)))

    def _parts(self, pod: JSON) -> Parts:
        return (*self._class(_kind(pod)), f"pod{facts.uid(pod)}")

    def _path(self, parts: Parts) -> str:
        return slices.path(parts) if self.driver == SYSTEMD else "/".join(parts)

    def parent(self, pod: JSON) -> str:
        """The name the runtime is given as cgroup parent."""
        parts = self._parts(pod)
        return slices.name(parts) if self.driver == SYSTEMD else "/" + "/".join(parts)

    def classes(self) -> tuple[str, ...]:
        """The cgroups above pods: of all of them, of the burstable and the best-effort ones."""
        return tuple("/" + self._path(self._class(kind)) for kind in _CLASSES)

    def known(self) -> set[str]:
        """The uids of the pods that have a cgroup."""
        found = set()
        for hierarchy in self._hierarchies():
            for kind in _CLASSES:
                parts = self._class(kind)
                folder = hierarchy / self._path(parts)
                if self.driver == SYSTEMD:
                    stem = slices.name(parts).removesuffix(slices.SUFFIX)
                    names = [
                        slices.parts(path.name)[-1] for path in folder.glob(f"{stem}-pod*{slices.SUFFIX}")
                    ]
                else:
                    names = [path.name for path in folder.glob("pod*")]
                found |= {name.removeprefix("pod") for name in names}
        return found

    # -- what is in them ---------------------------------------------------------------------------------------

    def memory_used(self, pod: JSON, container_id: str = "") -> int:
        """Bytes that a pod or one of its containers uses, cached files included; 0 where there is no such cgroup."""
        group, form = children(self.parent(pod), self.driver == SYSTEMD)
        folder = (group + (form.format(container_id) if container_id else "")).lstrip("/")
        name = "memory.current" if self.v2 else "memory/memory.usage_in_bytes"
        tree, _, file = name.rpartition("/")
        text = _text(self._base / tree / folder / file).strip()
        return int(text) if text.isdigit() else 0

    async def start(self) -> None:
        """Make the tree above the pods. Raises CgroupFailure."""
        for kind in ("", "burstable"):
            await self._set(self._class(kind), Limits())
        await self._set(self._class("besteffort"), Limits(shares=qos.MIN_SHARES))

    async def create(self, pod: JSON) -> None:
        """Make the pod's cgroup and set its limits. Raises CgroupFailure."""
        values = qos.pod_cgroup(pod, self._kernel.period)
        free = not self._kernel.quotas or self.alone(facts.uid(pod))
        given = Limits(
            shares=values.cpu_shares,
            quota=UNLIMITED if free else values.cpu_quota,
            period=values.cpu_period,
            memory=values.memory_limit,
            pids=max(0, self._pod_pids),
            huge_pages=qos.huge_pages(pod["spec"]),
        )
        await self._set(self._parts(pod), given)
        if _kind(pod) == "burstable":
            self._asked[facts.uid(pod)] = qos.milli_requested(pod["spec"])
            await self._weigh_burstable()

    async def _weigh_burstable(self) -> None:
        shares = qos.shares(sum(self._asked.values()))
        if shares != self._burstable:
            self._burstable = shares
            await self._set(self._class("burstable"), Limits(shares=shares))

    async def bound_pods(self, bounds: Bounds) -> None:
        """Bind all pods together to so much. Raises OSError."""
        given = limits.of_bounds(bounds)
        if self.v2 and self.driver == SYSTEMD:  # which takes controllers away that it has not been told of
            given = replace(given, cpus=self._cpus())
        await self._bound(self._class(""), given)

    def _cpus(self) -> frozenset[int]:
        text = _text(self._base / "cpuset.cpus.effective").strip()
        return processors("cpuset.cpus.effective", text)

    async def bound(self, group: str, bounds: Bounds) -> None:
        """Bind a cgroup, which has to be there, to so much. Raises OSError."""
        if self.driver == SYSTEMD:
            await self._bound(slices.parts(group.rpartition("/")[2]), limits.of_bounds(bounds))
        else:
            await self._bound(tuple(part for part in group.split("/") if part), limits.of_bounds(bounds))

    async def _bound(self, parts: Parts, given: Limits) -> None:
        self._demand(parts)
        written = [
            (hierarchy / self._path(parts) / name, text)
            for hierarchy in self._hierarchies()
            for name, text in limits.files(given, hierarchy.name, self.v2).items()
        ]
        if self.driver == SYSTEMD:
            await self._slices().change(parts, given)
        for path, text in written:
            path.write_text(text)

    def _demand(self, parts: Parts) -> None:
        """Raise OSError, in the kubelet's words, where a cgroup is not there: it is somebody else's to make."""
        there = [h / self._path(parts) for h in self._hierarchies() if self.v2 or h.name in _DEMANDED]
        missing = [str(path) for path in there if not path.is_dir()]
        called = f"[{' '.join(json.dumps(part) for part in parts)}]"
        if missing and self.v2:
            file = f"{missing[0]}/cgroup.controllers"
            raise OSError(
                f"could not read controllers for cgroup {called}: open {file}: no such file or directory"
            )
        if missing:
            raise OSError(f"cgroup {called} has some missing paths: {', '.join(missing)}")

    async def _set(self, parts: Parts, given: Limits) -> None:
        """Make a cgroup unless it is there, and give it its limits."""
        try:
            if self.driver == SYSTEMD:
                await self._slices().hold(parts, given)
            self._write(parts, given)
        except OSError as error:
            raise CgroupFailure(f"failed to create container for [{' '.join(parts)}] : {error}") from error

    def _write(self, parts: Parts, given: Limits) -> None:
        """The same by files. Raises OSError where a folder cannot be made."""
        for hierarchy in self._hierarchies():
            path = self._make(hierarchy, self._path(parts))
            for name, text in limits.files(given, hierarchy.name, self.v2).items():
                _put(path / name, text)
            if given.huge_pages is not None and (self.v2 or hierarchy.name == "hugetlb"):
                for file, size in self._page_files(path):
                    _put(file, str(given.huge_pages.get(size, 0)))  # none of a size that was not asked for

    def _page_files(self, path: Path) -> Iterator[tuple[Path, str]]:
        for file in path.glob("hugetlb.*.max" if self.v2 else "hugetlb.*.limit_in_bytes"):
            if ".rsvd." not in file.name:
                yield file, file.name.split(".")[1]

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

    async def remove(self, uid: str) -> None:
        """Remove the pod's cgroup; processes that are still dying get two seconds."""
        if self._asked.pop(uid, None) is not None:
            await self._weigh_burstable()
        for kind in _CLASSES:
            parts = (*self._class(kind), f"pod{uid}")
            there = [path for h in self._hierarchies() if (path := h / self._path(parts)).is_dir()]
            if there and self.driver == SYSTEMD:
                try:
                    await self._slices().end(parts)
                except OSError as error:
                    log.warning("systemd does not end the slice of pod %s: %s", uid, error)
            for path in there:
                await _remove(path)


def _kind(pod: JSON) -> str:
    """The class of a pod as its folder is called; "" for guaranteed ones, which have none."""
    kind = qos_class(pod["spec"])
    return "" if kind == "Guaranteed" else kind.lower()


async def _remove(path: Path) -> None:
    for _ in range(20):
        if not path.is_dir():
            return
        try:
            for child in sorted(path.rglob("*"), key=lambda p: len(p.parts), reverse=True):
                if child.is_dir():
                    child.rmdir()
            path.rmdir()
        except OSError:
            await asyncio.sleep(0.1)
    if path.is_dir():
        log.warning("cgroup %s cannot be removed yet: it still holds processes", path)


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
