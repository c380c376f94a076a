"""What must hold in every history, whatever goes wrong.

* **watch**: what a watcher is told is in order, without repetition, complete, and resumable after every break;
* **writes**: what was acknowledged is there at the end; what was refused is not; what is unknown is one or the other;
* **binding**: a pod's node is set once and never changes;
* **surge**: no rollout asks for more pods than ``replicas + maxSurge``;
* **quota**: what a quota says is used is what is there, at every revision;
* **orphans**: when everything is quiet, nothing is owned by what no longer exists.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson

from bamikube.api import quota
from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.controllers.deployment_sets import limits
from bamikube.kit.world import World
from bamikube.store.port import Store

Object = dict[str, Any]


class Broken(AssertionError):
    """An invariant does not hold."""


class StoreWitness:
    """Looks at every change as the store makes it, not as any service tells it."""

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world
        self.bound: dict[str, str] = {}
        self.sets: dict[str, Object] = {}
        self.deployments: dict[str, Object] = {}
        # The largest size each Deployment was asked to have: a shrinking rollout may hold that many for a while.
        self.largest: dict[str, int] = {}
        self.pods: dict[str, Object] = {}
        self.quotas: dict[str, Object] = {}
        self.problems: list[str] = []

    async def run(self) -> None:
        revision = 0
        async for batch in self._store.watch(b"/registry/", 1):
            for change in batch:
                if change.mod_revision != revision:
                    self._weigh(revision)
                    revision = change.mod_revision
                obj = orjson.loads(change.value) if change.value is not None else None
                key = change.key.decode()
                if key.startswith("/registry/pods/"):
                    self._pod(key, obj)
                elif key.startswith("/registry/apps/deployments/"):
                    self._deployment(key, obj)
                elif key.startswith("/registry/apps/replicasets/"):
                    self._set(key, obj)
                elif key.startswith("/registry/resourcequotas/"):
                    _keep(self.quotas, key, obj)
            self._weigh(revision)

    def _weigh(self, revision: int) -> None:
        """Compare every quota with what is there, at the end of a revision."""
        kept = {("", "pods"): self.pods, ("apps", "deployments"): self.deployments}
        for key, found in self.quotas.items():
            if not quota.is_settled(found):
                continue
            there = quota.recount(found, lambda kind: kept[kind].values())
            if there != found["status"]["used"]:
                self.problems.append(
                    f"{key} says at {revision} that {found['status']['used']} is used, it is {there}"
                )

    def _pod(self, key: str, obj: Object | None) -> None:
        _keep(self.pods, key, obj)
        if obj is None:
            return
        uid = obj["metadata"]["uid"]
        node = obj["spec"].get("nodeName", "")
        before = self.bound.get(uid, "")
        if before and node != before:
            self.problems.append(f"{key} was bound to {before} and is now on {node or 'no node'}")
        if node:
            self.bound[uid] = node

    def _deployment(self, key: str, obj: Object | None) -> None:
        if obj is None:
            self.deployments.pop(key, None)
            return
        uid = obj["metadata"]["uid"]
        self.deployments[key] = obj
        surge, _ = limits(obj)
        self.largest[uid] = max(self.largest.get(uid, 0), int(obj["spec"]["replicas"]) + surge)

    def _set(self, key: str, obj: Object | None) -> None:
        if obj is None:
            self.sets.pop(key, None)
            return
        self.sets[key] = obj
        for owner in obj["metadata"].get("ownerReferences") or []:
            uid = owner["uid"]
            total = sum(
                int(rs["spec"]["replicas"])
                for rs in self.sets.values()
                if any(other["uid"] == uid for other in rs["metadata"].get("ownerReferences") or [])
            )
            if uid in self.largest and total > self.largest[uid]:
                self.problems.append(
                    f"{owner['name']} asks for {total} pods, {self.largest[uid]} are allowed"
                )


def _keep(held: dict[str, Object], key: str, obj: Object | None) -> None:
    if obj is None:
        held.pop(key, None)
    else:
        held[key] = obj


class Watcher:
    """A careful client of one collection: lists, watches, resumes, and notes what it was told."""

    def __init__(self, client: Client, resource: str, world: World) -> None:
        self._client = client
        self._resource = resource
        self._world = world
        self.objects: dict[str, Object] = {}
        self.revision = ""
        self.breaks = 0
        self.problems: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                if not self.revision:
                    await self._list()
                await self._watch()
            except ApiError as error:
                if error.code == 410:
                    self.revision = ""
            except OSError:
                self.breaks += 1
            await self._world.clock.sleep(self._world.chance.uniform(0.01, 0.5))

    async def _list(self) -> None:
        page = await self._client.list(self._resource)
        self.objects = {_key(obj): obj for obj in page["items"]}
        self.revision = page["metadata"]["resourceVersion"]

    async def _watch(self) -> None:
        async for event in self._client.watch(self._resource, resource_version=self.revision, timeout=60):
            version = event.object["metadata"]["resourceVersion"]
            if int(version) < int(self.revision) or (
                event.type != "BOOKMARK" and int(version) == int(self.revision)
            ):
                self.problems.append(
                    f"{self._resource}: told {event.type} at {version} after {self.revision}"
                )
            if event.type == "DELETED":
                if self.objects.pop(_key(event.object), None) is None:
                    self.problems.append(f"{self._resource}: deletion of unknown {_key(event.object)}")
            elif event.type == "ADDED":
                if _key(event.object) in self.objects:
                    self.problems.append(f"{self._resource}: {_key(event.object)} was added twice")
                self.objects[_key(event.object)] = event.object
            elif event.type == "MODIFIED":
                if _key(event.object) not in self.objects:
                    self.problems.append(f"{self._resource}: change of unknown {_key(event.object)}")
                self.objects[_key(event.object)] = event.object
            self.revision = version


class Writer:
    """Writes counters into ConfigMaps and keeps book of what the server has acknowledged."""

    def __init__(self, client: Client, prefix: str, world: World) -> None:
        self._client = client
        self._prefix = prefix
        self._world = world
        self.sure: dict[str, int] = {}  # name -> value acknowledged
        self.possible: dict[str, set[int]] = {}  # name -> values whose write had no answer
        self.acknowledged = 0
        self.stopping = False

    async def run(self) -> None:
        """Write until ``stopping`` is set; a write that has begun is finished, so that its outcome is in the book."""
        number = 0
        while not self.stopping:
            name = f"{self._prefix}-{self._world.chance.randrange(0, 5)}"
            number += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await self._write(name, number)
            await self._world.clock.sleep(self._world.chance.uniform(0.2, 2.0))

    async def _write(self, name: str, number: int) -> None:
        data = {"value": str(number)}
        try:
            if name in self.sure or name in self.possible:
                await self._client.patch("configmaps", name, {"data": data}, "default")
            else:
                meta = {"name": name, "namespace": "default"}
                await self._client.create(
                    "configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
                )
        except ApiError as error:
            if error.code in (503, 504, 500):
                self.possible.setdefault(name, set()).add(number)
            elif error.code == 404:
                # A creation without an answer had not happened after all: start again.
                self.possible.pop(name, None)
            return
        except OSError:
            self.possible.setdefault(name, set()).add(number)
            return
        self.sure[name] = number
        self.possible.pop(name, None)
        self.acknowledged += 1

    async def judge(self) -> list[str]:
        problems = []
        for name, value in self.sure.items():
            try:
                held = int((await self._client.get("configmaps", name, "default"))["data"]["value"])
            except ApiError as error:
                problems.append(f"acknowledged {name}={value}, now: {error.message}")
                continue
            if held != value and held not in self.possible.get(name, ()):
                problems.append(f"acknowledged {name}={value}, now {held}")
        return problems


async def settled(client: Client) -> list[str]:
    """Why the cluster has not come to rest yet; empty when it has."""
    reasons = []
    deployments = (await client.list("deployments.apps"))["items"]
    sets = (await client.list("replicasets.apps"))["items"]
    pods = (await client.list("pods"))["items"]
    for deployment in deployments:
        status, wanted = deployment.get("status") or {}, deployment["spec"]["replicas"]
        name = deployment["metadata"]["name"]
        if status.get("observedGeneration") != deployment["metadata"]["generation"]:
            reasons.append(f"{name}: its latest generation is not observed")
        for count in ("replicas", "updatedReplicas", "availableReplicas"):
            if status.get(count, 0) != wanted:
                reasons.append(f"{name}: {count} is {status.get(count, 0)}, not {wanted}")
    uids = {obj["metadata"]["uid"] for obj in (*deployments, *sets)}
    for obj in (*sets, *pods):
        for owner in obj["metadata"].get("ownerReferences") or []:
            if owner["uid"] not in uids:
                reasons.append(f"{obj['metadata']['name']} is owned by {owner['name']}, which is gone")
    total = sum(deployment["spec"]["replicas"] for deployment in deployments)
    if len(pods) != total:
        reasons.append(f"{len(pods)} pods for {total} replicas")
    nodes = (await client.list("nodes"))["items"]
    for node in nodes:
        ready = {c["type"]: c["status"] for c in node["status"]["conditions"]}.get("Ready")
        if ready != "True" or node["spec"].get("taints"):
            reasons.append(
                f"{node['metadata']['name']}: ready is {ready}, taints {node['spec'].get('taints')}"
            )
    return reasons


def _key(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
