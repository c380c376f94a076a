"""A pod's status on its way to the API: only changes, newest wins, in order.

The worker offers a status after every plan; while a patch is under way newer ones replace each other. A failed patch
is tried again; one that says the pod is gone, or another one, ends the publishing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON

log = logging.getLogger(__name__)

FLUSH = 30.0  # seconds the last words of a pod may take
OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
_FIELDS = ("reason", "message", "podIP", "podIPs")


def patch_between(old: JSON, new: JSON) -> JSON:
    """A strategic merge patch of the fields that differ; {} if none does. Conditions merge by type at the server."""
    patch: JSON = {key: value for key, value in new.items() if old.get(key) != value}
    for key in _FIELDS:
        if old.get(key) and key not in new:
            patch[key] = None
    if "conditions" in patch:
        before = {c["type"]: c for c in old.get("conditions") or ()}
        patch["conditions"] = [
            # Merging keeps fields the patch does not name, so a message that is gone has to be named.
            c | {field: None for field in before.get(c["type"], {}) if field not in c}
            for c in new["conditions"]
            if before.get(c["type"]) != c
        ]
        if not patch["conditions"]:
            del patch["conditions"]
    for key in ("podIPs", "hostIPs"):
        if patch.get(key):
            kept = {item["ip"] for item in patch[key]}
            gone = [item["ip"] for item in old.get(key) or () if item["ip"] not in kept]
            patch[key] = [*patch[key], *({"$patch": "delete", "ip": ip} for ip in gone)]
    return patch


class Publisher:
    """Writes one pod's status."""

    def __init__(self, shared: Shared, pod: Callable[[], JSON]) -> None:
        self._shared = shared
        self._pod = pod
        self._sent: JSON = dict(pod().get("status") or {})
        self._wanted: JSON | None = None
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def known(self, status: JSON) -> JSON:
        """``status`` with the conditions that others own as the API has them now."""
        foreign = (self._pod().get("status") or {}).get("conditions") or ()
        own = [c for c in status.get("conditions") or () if c["type"] in OWN]
        if not own:
            own = [c for c in foreign if c["type"] in OWN]
        return status | {"conditions": [*own, *(c for c in foreign if c["type"] not in OWN)]}

    def offer(self, status: JSON) -> None:
        """Publish ``status`` soon, if it differs from what was published last."""
        if not self._closed and patch_between(self._sent, status):
            self._wanted = status
            self._idle.clear()
            self._changed.set()

    def close(self) -> None:
        """The pod is gone: publish nothing more."""
        self._closed = True
        self._wanted = None
        self._idle.set()

    async def flush(self) -> None:
        """Wait until everything offered is written (or given up)."""
        try:
            async with asyncio.timeout(FLUSH):
                await self._idle.wait()
        except TimeoutError:
            log.warning("the last status of pod %s could not be written", self._pod()["metadata"]["name"])

    async def run(self) -> None:
        wait = 0.2
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._wanted is not None:
                status, self._wanted = self._wanted, None
                try:
                    await self._shared.api.write_status(self._pod(), patch_between(self._sent, status))
                    self._sent, wait = status, 0.2
                except ApiError as error:
                    if error.code in (404, 409):
                        self.close()
                        continue
                    wait = await self._later(status, error, wait)
                except OSError as error:
                    wait = await self._later(status, error, wait)
            self._idle.set()

    async def _later(self, status: JSON, error: Any, wait: float) -> float:
        log.warning("cannot write the status of pod %s: %s", self._pod()["metadata"]["name"], error)
        self._wanted = self._wanted or status
        await self._shared.world.clock.sleep(wait)
        return min(wait * 2, 5.0)
