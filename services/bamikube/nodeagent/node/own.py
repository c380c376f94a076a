"""The node's own Node object as the API server has it now: its labels, its taints, what it may hand out.

Others change it (``kubectl label``, ``kubectl taint``, an administrator who adds an extended resource), so it is watched by name. Until
the first list has come, what the node agent would register stands in for it.
"""

from __future__ import annotations

import asyncio

from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.world import World
from bamikube.nodeagent.pod.facts import JSON


class OwnNode:
    """``at_first``: what is said of the node until the API server has been heard."""

    def __init__(self, client: Client, world: World, name: str, at_first: JSON) -> None:
        self._client, self._name, self._at_first = client, name, at_first
        self._informer = Informer(client, "nodes", world, fields=f"metadata.name={name}", fresh=True)

    @property
    def synced(self) -> asyncio.Event:
        return self._informer.synced

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        await self._informer.run()

    def current(self) -> JSON:
        """The Node object. Not to be changed."""
        return self._whole(self._informer.get(self._name))

    async def fresh(self) -> JSON:
        """The Node object as the API server has it at this moment. Raises ApiError and OSError."""
        return self._whole(await self._client.get("nodes", self._name))

    def _whole(self, found: JSON | None) -> JSON:
        """With what the node may hand out, which an object that others made may not say yet."""
        if found is None:
            return self._at_first
        if (found.get("status") or {}).get("allocatable"):
            return found
        return found | {"status": self._at_first["status"]}
