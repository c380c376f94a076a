"""The mirrors of static pods: objects in the API that show what the node runs by itself.

Each static pod has one, owned by the Node; it is made, made anew when somebody deletes it or the manifest has changed,
and taken away with its pod. The pod's status is written onto it. Nothing here decides what runs: with the API server
down the pods run, and their mirrors come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.world import World
from bamikube.nodeagent.api import PodApi
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.publisher import patch_between

log = logging.getLogger(__name__)

LOOK = 10.0  # seconds between two looks when nobody says that anything has changed
RETRY = 1.0  # seconds until what failed is tried again


def action(pod: JSON | None, mirror: JSON | None) -> Literal["Create", "Delete", "Publish", ""]:
    """What is to be done for a static pod (None: it has gone) and the mirror there is of that name. Pure.

    The mirror of a pod that is ending stays until it has ended; it is not made anew.
    """
    if mirror is None:
        return "Create" if pod is not None and not facts.deleted(pod) else ""
    shown = (mirror["metadata"].get("annotations") or {}).get(facts.MIRROR)
    if pod is None or facts.deleted(mirror) or shown != facts.uid(pod):
        return "Delete"
    return "Publish"


def mirror_of(pod: JSON, node: JSON) -> JSON:
    """The object to create. Pure."""
    mirror = copy.deepcopy({key: value for key, value in pod.items() if key != "status"})
    meta = mirror["metadata"]
    del meta["uid"]
    meta.pop("deletionTimestamp", None)
    meta["annotations"][facts.MIRROR] = meta["annotations"][facts.CONFIG_HASH]
    name, uid = node["metadata"]["name"], node["metadata"]["uid"]
    meta["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid, "controller": True}
    ]
    return mirror


class Mirrors:
    """``pods``: the static pods there are and their status, by namespace and name; ``node``: the Node, as the API has it."""

    def __init__(
        self,
        client: Client,
        world: World,
        informer: Informer,
        node: Callable[[], JSON],
        pods: Callable[[], Mapping[str, tuple[JSON, JSON]]],
        read: Callable[[], bool],
    ) -> None:
        self._client, self._world, self._informer = client, world, informer
        self._node, self._pods, self._read = node, pods, read
        self._changed = asyncio.Event()
        self._sent: dict[str, tuple[str, JSON]] = {}  # mirror's uid -> its version, and the patch of it
        self._told: dict[str, str] = {}  # what was said of a mirror that could not be written

    def changed(self) -> None:
        """A static pod, its status or a mirror is different: look at once."""
        self._changed.set()

    async def run(self) -> None:
        await self._informer.synced.wait()
        while True:
            self._changed.clear()
            wait = LOOK if await self._round() else RETRY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _round(self) -> bool:
        """One look at all of them; whether everything succeeded."""
        pods, well = self._pods(), True
        mirrors = {
            f"{m['metadata']['namespace']}/{m['metadata']['name']}": m
            for m in self._informer.items()
            if facts.mirror(m)
        }
        self._sent = {
            uid: sent for uid, sent in self._sent.items() if uid in map(facts.uid, mirrors.values())
        }
        for key in sorted(pods.keys() | mirrors.keys()):
            pod, status = pods.get(key, (None, {}))
            try:
                await self._tend(pod, status, mirrors.get(key))
                self._told.pop(key, None)
            except (ApiError, OSError) as error:
                well = False
                if self._told.get(key) != str(error):
                    log.warning("mirror pod %s: %s", key, error)
                self._told[key] = str(error)
        return well

    async def _tend(self, pod: JSON | None, status: JSON, mirror: JSON | None) -> None:
        what = action(pod, mirror)
        if what == "Create" and pod is not None:
            node = self._node()
            if node["metadata"].get("uid"):
                await self._client.create("pods", mirror_of(pod, node))
        elif what == "Delete" and mirror is not None and self._read():
            meta = mirror["metadata"]
            try:
                await self._client.delete(
                    "pods", meta["name"], meta["namespace"], uid=meta["uid"], grace_seconds=0
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        elif what == "Publish" and mirror is not None and status:
            await self._publish(mirror, status)

    async def _publish(self, mirror: JSON, status: JSON) -> None:
        meta = mirror["metadata"]
        patch = patch_between(mirror.get("status") or {}, status)
        sent = (str(meta.get("resourceVersion")), patch)
        if not patch or self._sent.get(meta["uid"]) == sent:
            return
        body = {"metadata": {"uid": meta["uid"]}, "status": patch}
        await self._client.patch(
            "pods", meta["name"], body, meta["namespace"], kind="strategic", subresource="status"
        )
        self._sent[meta["uid"]] = sent


class StaticApi:
    """The cluster for the worker of a static pod: it refers to no object of its namespace there, and its status goes to its mirror."""

    def __init__(self, api: PodApi, status: Callable[[str], JSON], changed: Callable[[], None]) -> None:
        self._api, self._status, self._changed = api, status, changed

    async def config_map(self, namespace: str, name: str) -> JSON | None:
        return None

    async def secret(self, namespace: str, name: str) -> JSON | None:
        return None

    async def trust_bundles(self) -> list[JSON] | None:
        return await self._api.trust_bundles()

    async def find(self, resource: str, namespace: str, name: str) -> JSON | None:
        """Of what a static pod may name there is only its RuntimeClass in the cluster."""
        return await self._api.find(resource, namespace, name)

    async def token(self, pod: JSON, audience: str, seconds: int) -> tuple[str, float]:
        raise RuntimeError("a static pod has no service account")

    def services(self, namespace: str) -> list[JSON]:
        return self._api.services(namespace)

    async def write_status(self, pod: JSON, patch: JSON) -> JSON:
        self._changed()
        return pod | {"status": self._status(facts.uid(pod))}

    async def delete(self, pod: JSON) -> None:
        """Its mirror goes when nothing is left of it."""

    def event(
        self,
        pod: JSON,
        type: str,
        reason: str,
        message: str,
        container: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self._api.event(pod, type, reason, message, container, annotations)
