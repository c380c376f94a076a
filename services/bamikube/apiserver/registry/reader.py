"""What the rest of the API server may read: decoded objects out of the cache.

Authorizers, admission and the special endpoints look things up thousands of times a second; they read what the
cache has seen and never ask the store. The dictionaries handed out are shared: whoever wants to change one copies
it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

ResourceKey = tuple[str, str]

# callback(type, old, new): type is ADDED, MODIFIED or DELETED; old is None for ADDED, new is None for DELETED.
ChangeCallback = Callable[[str, dict[str, Any] | None, dict[str, Any] | None], None]


class Reader(Protocol):
    """Objects by ``(group, plural)``, namespace ("" for cluster-scoped) and name."""

    synced: asyncio.Event

    def get(self, resource_key: ResourceKey, namespace: str, name: str) -> dict[str, Any] | None: ...

    def list(self, resource_key: ResourceKey, namespace: str = "") -> list[dict[str, Any]]:
        """All objects, or those of one namespace, in key order."""

    async def consistent(self, timeout: float = 3.0) -> bool:
        """Wait until everything the store held at the time of the call can be read here; False when that took
        longer than ``timeout`` seconds. Who is about to refuse because something is missing asks this first: another
        API server may have just written it. Raises StoreError when the store cannot be asked."""

    def subscribe(self, resource_key: ResourceKey, callback: ChangeCallback, only: str = "") -> None:
        """Call back on every change from now on; objects already there come first, as ADDED, once synced.

        ``only``: about one object, by its ``namespace/name`` or ``name``. All others are not even decoded."""
