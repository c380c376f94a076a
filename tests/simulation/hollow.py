"""A hollow node for histories of the control plane: registers, renews its lease, and says what a real node agent would say
about its pods, but runs nothing. Pods become ready after a moment, and go when they are asked to. The real node agent is
ten times as dear, and has histories of its own (:mod:`tests.simulation.agent_node`)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.times import stamp
from bamikube.client.client import Client
from bamikube.client.informer import Informer, split_key
from bamikube.kit.clock import rfc3339_micro
from bamikube.kit.tasks import Tasks
from bamikube.kit.workqueue import WorkQueue, work
from bamikube.kit.world import World

Object = dict[str, Any]


class HollowNode:
    """One node. ``run`` until cancelled: that is a crash, which leaves everything as it stands."""

    def __init__(self, client: Client, name: str, number: int, world: World) -> None:
        self.name = name
        self._client = client
        self._number = number
        self._world = world
        self._addresses = 0

    async def run(self) -> None:
        tasks = Tasks(self.name)
        pods = Informer(self._client, "pods", self._world, fields=f"spec.nodeName={self.name}")
        queue = WorkQueue(self._world, name=self.name)
        pods.on_change(lambda key, old, new: queue.add(key))

        async def sync(key: str) -> float | None:
            pod = pods.get(key)
            return await self._sync(key, pod) if pod is not None else None

        try:
            running = [tasks.spawn(self._alive()), tasks.spawn(pods.run())]
            running.append(tasks.spawn(work(queue, sync, workers=3, tasks=tasks)))
            await asyncio.gather(*running)
        finally:
            queue.close()
            await tasks.close()

    async def _alive(self) -> None:
        while True:
            with contextlib.suppress(ApiError, OSError):
                await self._register()
                await self._renew()
            await self._world.clock.sleep(10)

    async def _register(self) -> None:
        now = stamp(self._world.clock.now())
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        amounts = {"cpu": "8", "memory": "16Gi", "pods": "110"}
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        try:
            node = await self._client.get("nodes", self.name)
        except ApiError as error:
            if error.code != 404:
                raise
            meta = {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}}
            node = await self._client.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": meta})
        held = {c["type"]: c for c in (node.get("status") or {}).get("conditions") or []}.get("Ready")
        if held is None or held["status"] != "True":
            await self._client.patch("nodes", self.name, {"status": status}, subresource="status")

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": 40,
            "renewTime": rfc3339_micro(self._world.clock.now()),
        }
        leases = "leases.coordination.k8s.io"
        try:
            await self._client.patch(leases, self.name, {"spec": spec}, "kube-node-lease")
        except ApiError as error:
            if error.code != 404:
                raise
            meta = {"name": self.name, "namespace": "kube-node-lease"}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            await self._client.create(leases, body)

    async def _sync(self, key: str, pod: Object) -> float | None:
        namespace, name = split_key(key)
        meta = pod["metadata"]
        try:
            if "deletionTimestamp" in meta:
                await self._world.clock.sleep(self._world.chance.uniform(0.05, 1.0))
                await self._client.delete("pods", name, namespace, uid=meta["uid"], grace_seconds=0)
            elif (pod.get("status") or {}).get("phase") != "Running" or not _ready(pod):
                await self._world.clock.sleep(self._world.chance.uniform(0.1, 1.5))
                await self._client.patch(
                    "pods",
                    name,
                    {"metadata": {"uid": meta["uid"]}, "status": self._status(pod)},
                    namespace,
                    subresource="status",
                    kind="strategic",
                )
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None

    def _status(self, pod: Object) -> Object:
        now = stamp(self._world.clock.now())
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            self._addresses += 1
            address = f"10.244.{self._number}.{self._addresses % 250 + 1}"
        ready = [
            {"type": type, "status": "True", "lastTransitionTime": now}
            for type in ("Initialized", "ContainersReady", "Ready")
        ]
        return {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": ready,
            "startTime": now,
        }


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
