"""The volumes of the pods on this machine: made, bound into containers, taken away.

Each volume is made on a thread of its own (:mod:`.threads`), so one that hangs (a dead file server below a hostPath)
holds up its own pod only. Work that outlives its patience goes on: the next attempt, and the clean-up of the pod, wait for
it instead of starting a second one beside it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bamikube.nodeagent.container.env import expand_whole
from bamikube.nodeagent.host import subpaths
from bamikube.nodeagent.host.mounting import mount_points, unmount
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.host.threads import beside
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Mount
from bamikube.nodeagent.volumes.kinds import plugin_in, plugin_of
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
        self._running: dict[tuple[str, str], asyncio.Future[object]] = {}

    async def set_up(self, pod: JSON, volume: JSON, given: Given, version: str) -> bool:
        """Make a volume, or bring it up to date. False when nothing had to be done."""
        uid, name = facts.uid(pod), volume["name"]
        plugin = plugin_of(volume)
        path = self._root / uid / "volumes" / plugin.name.replace("/", "~") / name
        order = Order(pod, volume, path, given, version)
        made: Made = await self._patiently(uid, name, lambda: plugin.set_up(order))
        self._made.setdefault(uid, {})[name] = made
        return made.changed

    async def _patiently(self, uid: str, name: str, work: Callable[[], T]) -> T:
        key = (uid, name)
        begun = self._running.get(key)
        if begun is not None:
            await self._within(begun, name)
        future = beside(work, f"volume/{uid}/{name}")
        self._running[key] = future  # type: ignore[assignment]
        future.add_done_callback(lambda done: self._ended(key, done))  # type: ignore[arg-type]
        await self._within(future, name)
        return future.result()

    def _ended(self, key: tuple[str, str], future: asyncio.Future[object]) -> None:
        if self._running.get(key) is future:
            del self._running[key]
        if not future.cancelled():
            future.exception()  # somebody has seen it, even if nobody waits any more

    async def _within(self, future: asyncio.Future[object] | asyncio.Future[T], name: str) -> None:
        done, _ = await asyncio.wait([future], timeout=self._patience)
        if not done:
            raise HostFailure(
                f"unmounted volumes=[{name}], unattached volumes=[], failed to process volumes=[]: "
                "context deadline exceeded"
            )

    # -- what containers get -----------------------------------------------------------------------------------

    async def mounts(self, pod: JSON, spec: JSON, environment: dict[str, str]) -> list[Mount]:
        """The mounts of one container. Raises HostFailure in the kubelet's words."""
        wanted = [self._wanted(pod, spec, item, environment) for item in spec.get("volumeMounts") or ()]
        if any(part for _, _, part in wanted):
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

    # -- the end -----------------------------------------------------------------------------------------------

    async def tear_down(self, uid: str) -> None:
        """Unmount and remove everything of the pod. Raises HostFailure while something is still at work or mounted."""
        for (owner, name), future in list(self._running.items()):
            if owner == uid:
                await self._within(future, name)
        await self._patiently(uid, "", lambda: _remove(self._root / uid))
        self._made.pop(uid, None)


def _remove(folder: Path) -> None:
    inside = f"{folder}/"
    for point in sorted(mount_points(), key=len, reverse=True):
        if point.startswith(inside):
            unmount(point)
    if any(point.startswith(inside) for point in mount_points()):
        raise HostFailure(f"{folder}: still mounted below; not removing anything")
    for kind in (folder / "volumes").glob("*"):
        plugin = plugin_in(kind.name)
        if plugin is None:
            continue  # a kind of an older or newer node agent: the whole folder goes below
        for path in kind.iterdir():
            plugin.tear_down(path)
    shutil.rmtree(folder, ignore_errors=True)


def _mounts(folder: Path, spec: JSON, wanted: list[tuple[JSON, Made, str]]) -> list[Mount]:
    result = []
    for index, (item, volume, part) in enumerate(wanted):
        source = volume.path
        if part:
            source = subpaths.prepare(folder, volume.path, part, (item["name"], spec["name"], index))
        path = item["mountPath"] if item["mountPath"].startswith("/") else "/" + item["mountPath"]
        read_only = bool(item.get("readOnly")) or volume.read_only
        result.append(Mount(path, str(source), read_only, item.get("mountPropagation") or "None"))
    return result
