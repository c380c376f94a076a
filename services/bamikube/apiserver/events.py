"""Events that the API server itself has to tell: written through the registry, without a request.

The recorder is the one that all components use, with its counting and its limits; only the way to the store differs.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import table
from bamikube.apiserver.registry import Registry
from bamikube.client.events import EventRecorder
from bamikube.kit.world import World


class RegistryEvents:
    """The :class:`~bamikube.client.events.EventWriter` of this process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def create(self, resource: str, obj: dict[str, Any]) -> Any:
        return await self._registry.create(table.by_name(resource), obj)

    async def patch(self, resource: str, name: str, patch: Any, namespace: str = "") -> Any:
        async def change(old: dict[str, Any]) -> dict[str, Any]:
            return {**old, **patch}

        return await self._registry.modify(table.by_name(resource), namespace, name, change)


def recorder(registry: Registry, world: World, component: str) -> EventRecorder:
    """A recorder of the API server's own events; its ``run`` writes them."""
    return EventRecorder(RegistryEvents(registry), world, component)
