"""The volumes of the pods on this machine: made, bound into containers, taken away.

Each volume is made on a thread of its own (:mod:`.threads`), so one that hangs (a dead file server below a hostPath)
holds up its own pod only. Work that outlives its patience goes on: the next attempt, and the clean-up of the pod, wait for
it instead of starting a second one beside it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bamikube.nodeagent import figures
from bamikube.nodeagent.container.env import expand_whole
from bamikube.nodeagent.host import readonly, subpaths
from bamikube.nodeagent.host.mounting import mount_points, unmount
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.host.threads import beside
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Device, Mount
from bamikube.nodeagent.volumes import claims
from bamikube.nodeagent.volumes.faults import TimedOut
from bamikube.nodeagent.volumes.image import ImageTree
from bamikube.nodeagent.volumes.kinds import plugin_in, plugin_of
from bamikube.nodeagent.volumes.local import Local, unmount_unused
from bamikube.nodeagent.volumes.plugin import Given, Made, Order

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 123.0  # seconds: as long as the kubelet waits for a pod's volumes


class Volumes:
    """``root`` holds a folder for each pod, named by its uid."""

    def __init__(self, root: Path, patience: float = PATIENCE) -> None:
        self._root = root
        self._patience = patience
        self._made: dict[str, dict[str, Made]] = {}  # pod uid -> volume -> where it is
        self._shared = root.parent / "plugins"
        self._users: dict[str, set[str]] = {}  # persistent volume -> uids of pods
        self._running: dict[tuple[str, str], asyncio.Future[object]] = {}

    async def set_up(self, pod: JSON, volume: JSON, given: Given, version: str) -> Made:
        """Make a volume, or bring it up to date."""
        uid, name = facts.uid(pod), volume["name"]
        plugin = plugin_of(volume, given.behind)
        folder = name
        if given.behind is not None:
            folder = given.behind["metadata"]["name"]
            self._occupy(folder, uid, given.behind)
        path = self._root / uid / "volumes" / plugin.name.replace("/", "~") / folder
        order = Order(pod, volume, path, given, version, self._shared / plugin.name / "mounts" / folder)
        with figures.storage_operation(plugin.name, "volume_mount"):
            made: Made = await self._patiently(uid, name, lambda: plugin.set_up(order))
        self._made.setdefault(uid, {})[name] = made
        return made

    def paths(self, uid: str) -> dict[str, Path]:
        """Where the volumes of a pod lie that were made for it; what lies elsewhere (hostPath) is not ours to measure."""
        own = self._root / uid
        return {
            name: made.path for name, made in self._made.get(uid, {}).items() if made.path.is_relative_to(own)
        }

    def _occupy(self, name: str, uid: str, behind: JSON) -> None:
        """Note who uses a persistent volume; one that is for a single pod is refused to a second."""
        users = self._users.setdefault(name, set())
        if users - {uid} and claims.for_one_pod(behind):
            raise HostFailure(
                "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
            )
        users.add(uid)

    async def _patiently(self, uid: str, name: str, work: Callable[[], T]) -> T:
        key = (uid, name)
        begun = self._running.get(key)
        if begun is not None:
            await self._within(begun)
        future = beside(work)
        self._running[key] = future  # type: ignore[assignment]
        future.add_done_callback(lambda done: self._ended(key, done))  # type: ignore[arg-type]
        await self._within(future)
        return future.result()

    def _ended(self, key: tuple[str, str], future: asyncio.Future[object]) -> None:
        if self._running.get(key) is future:
            del self._running[key]
        if not future.cancelled():
            future.exception()  # somebody has seen it, even if nobody waits any more

    async def _within(self, future: asyncio.Future[object] | asyncio.Future[T]) -> None:
        done, _ = await asyncio.wait([future], timeout=self._patience)
        if not done:
            raise TimedOut

    # -- what containers get -----------------------------------------------------------------------------------

    async def mounts(self, pod: JSON, spec: JSON, environment: dict[str, str]) -> list[Mount]:
        """The mounts of one container. Raises HostFailure in the kubelet's words."""
        wanted = [self._wanted(pod, spec, item, environment) for item in spec.get("volumeMounts") or ()]
        if any(part or readonly.wanted(item) != "Disabled" for item, _, part in wanted):
            folder = self._root / facts.uid(pod)
            return await self._patiently(
                facts.uid(pod), f"of container {spec['name']}", lambda: _mounts(folder, spec, wanted)
            )
        return _mounts(self._root, spec, wanted)

    def _wanted(
        self, pod: JSON, spec: JSON, item: JSON, environment: dict[str, str]
    ) -> tuple[JSON, Made, str]:
        volume = self._made.get(facts.uid(pod), {}).get(item["name"])
        if volume is None:
            raise HostFailure(f'cannot find volume "{item["name"]}" to mount into container "{spec["name"]}"')
        expression = item.get("subPathExpr") or ""
        part = expand_whole(expression, environment) if expression else item.get("subPath") or ""
        return item, volume, subpaths.checked(part)

    def devices(self, pod: JSON, spec: JSON) -> tuple[Device, ...]:
        """The block volumes of one container. Raises HostFailure in the kubelet's words."""
        made = self._made.get(facts.uid(pod), {})
        result = []
        for item in spec.get("volumeDevices") or ():
            volume = made.get(item["name"])
            if volume is None:
                raise HostFailure(
                    f'cannot find volume "{item["name"]}" to pass into container "{spec["name"]}"'
                )
            result.append(Device(item["devicePath"], str(volume.path), "r" if volume.read_only else "mrw"))
        return tuple(result)

    # -- the end -----------------------------------------------------------------------------------------------

    async def tear_down(self, uid: str) -> None:
        """Unmount and remove everything of the pod. Raises HostFailure while something is still at work or mounted."""
        for (owner, _), future in list(self._running.items()):
            if owner == uid:
                await self._within(future)
        await self._patiently(uid, "", lambda: self._take_away(uid))
        self._made.pop(uid, None)
        for name in [name for name, users in self._users.items() if uid in users]:
            self._users[name].discard(uid)
            if not self._users[name]:
                del self._users[name]

    def _take_away(self, uid: str) -> None:
        _remove(self._root / uid)
        unmount_unused(self._shared / Local.name / "mounts")


def _remove(folder: Path) -> None:
    inside = f"{folder}/"
    for point in sorted(mount_points(), key=len, reverse=True):
        if point.startswith(inside):
            unmount(point)
    if any(point.startswith(inside) for point in mount_points()):
        raise HostFailure(f"{folder}: still mounted below; not removing anything")
    for kind in (folder / "volumes").glob("*"):
        plugin = plugin_in(kind.name)
        for path in kind.iterdir():
            if plugin is None:
                path.rmdir()  # a kind of an older or newer node agent: nothing may be in it any more
            else:
                with figures.storage_operation(plugin.name, "volume_unmount"):
                    plugin.tear_down(path)
    for places in ("volume-subpaths", "volume-read-only"):
        _remove_places(folder / places)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_places(folder: Path) -> None:
    """Remove what parts of volumes were bound to: empty folders and files. Anything else is somebody's data, and stays."""
    for above, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(above, name)
            if path.stat().st_size:
                raise HostFailure(f"{path}: not empty; not removing it")
            path.unlink()
        for name in folders:
            Path(above, name).rmdir()


def _mounts(folder: Path, spec: JSON, wanted: list[tuple[JSON, Made, str]]) -> list[Mount]:
    result = []
    for index, (item, volume, part) in enumerate(wanted):
        source, place = volume.path, (item["name"], spec["name"], index)
        if part:
            if (
                isinstance(plugin_in(volume.path.parent.name), ImageTree)
                and not (volume.path / part).exists()
            ):
                raise subpaths.NoSuchFolder(volume.path, part)
            source = subpaths.prepare(folder, volume.path, part, place)
        mode = readonly.wanted(item)
        if mode != "Disabled":
            source = readonly.prepare(folder, source, mode, place)
        path = item["mountPath"] if item["mountPath"].startswith("/") else "/" + item["mountPath"]
        read_only = not volume.sealed and (bool(item.get("readOnly")) or volume.read_only)
        propagation = item.get("mountPropagation") or "None"
        result.append(Mount(path, str(source), read_only, propagation, volume.mapped))
    return result
