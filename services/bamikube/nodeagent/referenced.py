"""The ConfigMaps and Secrets that this node's pods refer to, watched one by one.

A node may not list them: it may read, and watch by name, only what pods bound to it refer to. So each object has an
informer of its own for as long as a pod here refers to it, and a change is told to those pods within milliseconds
instead of being found a minute later. What is immutable cannot change: its watch ends with the first look.

Worked example: pods ``a`` and ``b`` name ConfigMap ``x``. ``hold(a)`` begins a watch, ``hold(b)`` joins it; ``x``
changes: ``{a, b}`` are told. ``release(a)``: the watch goes on; ``release(b)``: it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.container import env
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.trust import TrustBundles
from bamikube.nodeagent.volumes import payload

Key = tuple[str, str, str]  # kind, namespace, name
RESOURCES = {"ConfigMap": "configmaps", "Secret": "secrets"}
PATIENCE = 1.0  # seconds for a watch's first look; after that the object itself is asked for


def references(pod: JSON) -> set[tuple[str, str]]:
    """Kind and name of all that the pod's containers, volumes and image pulls refer to. Pure."""
    found: set[tuple[str, str]] = set()
    for spec in (*facts.all_containers(pod), *(pod["spec"].get("ephemeralContainers") or ())):
        found |= env.references(spec)
    for volume in pod["spec"].get("volumes") or ():
        found |= payload.needs(volume).objects
    found |= {("Secret", ref.get("name", "")) for ref in pod["spec"].get("imagePullSecrets") or ()}
    return {(kind, name) for kind, name in found if name}


@dataclass(slots=True)
class _Entry:
    """One watched object. ``holders`` are uids of pods; ``fixed`` is an immutable object's last word."""

    informer: Informer
    task: asyncio.Task[Any]
    holders: set[str] = field(default_factory=set)
    fixed: JSON | None = None


class Referenced:
    """``tell`` gets the uids of pods when something they refer to has changed."""

    def __init__(self, client: Client, world: World) -> None:
        self._client, self._world = client, world
        self._entries: dict[Key, _Entry] = {}
        self._held: dict[str, set[Key]] = {}
        self._seen: dict[str, int | None] = {}  # pod uid -> the generation its references were read from
        self._tasks = Tasks("referenced")
        self._closed = False
        self.tell: Callable[[set[str]], None] = lambda uids: None
        self.trust = TrustBundles(client, world, self._tasks, lambda uids: self.tell(uids))

    def hold(self, pod: JSON) -> None:
        """Watch what ``pod`` refers to now, and no more what it has ceased to."""
        uid, namespace = facts.uid(pod), pod["metadata"].get("namespace", "")
        version = pod["metadata"].get("generation")
        if self._closed:
            return  # the agent is stopping, and hears of pods to the end
        if uid in self._held and version is not None and self._seen.get(uid) == version:
            return
        self._seen[uid] = version
        self.trust.hold(uid, pod)
        wanted = {(kind, namespace, name) for kind, name in references(pod)}
        before = self._held.get(uid, set())
        self._held[uid] = wanted
        for key in wanted - before:
            entry = self._entries.get(key) or self._begin(key)
            entry.holders.add(uid)
        self._let_go(uid, before - wanted)

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._seen.pop(uid, None)
        self.trust.release(uid)
        self._let_go(uid, self._held.pop(uid, set()))

    def _let_go(self, uid: str, keys: set[Key]) -> None:
        for key in keys:
            entry = self._entries[key]
            entry.holders.discard(uid)
            if not entry.holders:
                entry.task.cancel()
                del self._entries[key]

    def _begin(self, key: Key) -> _Entry:
        kind, namespace, name = key
        informer = Informer(
            self._client, RESOURCES[kind], self._world, namespace=namespace, fields=f"metadata.name={name}", fresh=True
        )  # fmt: skip
        informer.on_change(partial(self._changed, key))
        task = self._tasks.spawn(informer.run(), f"{kind}/{namespace}/{name}")
        entry = self._entries[key] = _Entry(informer, task)
        return entry

    def _changed(self, key: Key, _name: str, old: JSON | None, new: JSON | None) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        if new is not None and new.get("immutable"):
            entry.fixed = new
            entry.task.cancel()
        if entry.informer.synced.is_set():  # the first look is no change; whoever waits for it gets it
            self.tell(set(entry.holders))

    async def get(self, kind: str, namespace: str, name: str) -> JSON | None:
        """The object as of now, None when there is none. Raises ApiError.

        A watch that shows nothing, or nothing yet, settles nothing: then the API server itself is asked.
        """
        entry = self._entries.get((kind, namespace, name))
        if entry is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await entry.informer.synced.wait()
            found = entry.fixed or entry.informer.get(f"{namespace}/{name}")
            if found is not None:
                return dict(found)
        try:
            return await self._client.get(RESOURCES[kind], name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def close(self) -> None:
        self._closed = True
        await self._tasks.close()
