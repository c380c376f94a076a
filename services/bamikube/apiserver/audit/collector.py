"""The audit webhook: events in batches to a collector, named by a kubeconfig.

Events wait in a buffer; a batch goes when it is full or its oldest event has waited long enough. A batch that cannot be
delivered is tried again with growing pauses; events that find the buffer full are lost, and counted: a collector that
is down must not hold up the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import orjson

from bamikube.apiserver.audit import figures
from bamikube.apiserver.audit.policy import API_VERSION
from bamikube.apiserver.outbound import Caller, CallError, Destination
from bamikube.apiserver.outbound.introductions import held_pair
from bamikube.kit.world import World
from bamikube.pki.kubeconfig import Access

log = logging.getLogger(__name__)

TRIES = 5
PATIENCE = 30.0  # seconds for one delivery
LONGEST_PAUSE = 60.0
FAREWELL = 3.0  # seconds for what is left when the server ends


class Collector:
    """``size`` events make a batch, ``wait`` seconds are the longest an event waits for company, ``buffer`` events may
    wait, ``pause`` seconds are the first pause after a failure. A batch of several events has at most ``most`` bytes (0: any)."""

    def __init__(
        self,
        access: Access,
        caller: Caller,
        world: World,
        *,
        size: int,
        wait: float,
        buffer: int,
        pause: float,
        most: int = 0,
    ) -> None:
        parts = urlsplit(access.server)
        self._to = Destination(
            parts.hostname or "",
            parts.port or 443,
            access.server_name or parts.hostname or "",
            parts.netloc.rpartition("@")[2],
            trust=access.ca_pem,
            verify=not access.insecure,
            pair=held_pair(access.cert_pem, access.key_pem),
        )
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = [("Content-Type", "application/json")]
        if access.token:
            self._headers.append(("Authorization", f"Bearer {access.token}"))
        self._caller = caller
        self._world = world
        self._size, self._wait, self._buffer, self._pause = size, wait, buffer, pause
        self._most = most
        self._waiting: deque[dict[str, Any]] = deque()
        self._filled = asyncio.Event()
        self._some = asyncio.Event()

    def write(self, event: dict[str, Any]) -> bool:
        """Never waits; what finds no room is lost."""
        if len(self._waiting) >= self._buffer:
            figures.lost("webhook")
            return True
        self._waiting.append(event)
        self._some.set()
        if len(self._waiting) >= self._size:
            self._filled.set()
        return True

    async def run(self) -> None:
        """Deliver until cancelled; then once more what is left."""
        try:
            while True:
                await self._some.wait()
                try:
                    async with asyncio.timeout(self._wait):
                        await self._filled.wait()
                except TimeoutError:
                    pass
                await self._deliver(self._batch())
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    while self._waiting:
                        await self._send(self._batch())
            await self._caller.close()

    def _batch(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        room = self._most
        while self._waiting and len(batch) < self._size:
            if self._most:
                room -= len(orjson.dumps(self._waiting[0]))
                if batch and room < 0:
                    break
            batch.append(self._waiting.popleft())
        if len(self._waiting) < self._size:
            self._filled.clear()
        if not self._waiting:
            self._some.clear()
        return batch

    async def _deliver(self, batch: list[dict[str, Any]]) -> None:
        pause = self._pause
        for attempt in range(TRIES):
            if await self._send(batch, last=attempt == TRIES - 1):
                return
            if attempt < TRIES - 1:
                await self._world.clock.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)

    async def _send(self, batch: list[dict[str, Any]], *, last: bool = True) -> bool:
        body = orjson.dumps({"kind": "EventList", "apiVersion": API_VERSION, "metadata": {}, "items": batch})
        try:
            reply = await self._caller.call(
                self._to, "POST", self._target, headers=self._headers, body=body, timeout=PATIENCE
            )
            if 200 <= reply.status < 300:
                return True
            why = f"it answered {reply.status}"
        except CallError as problem:
            why = str(problem)
        log.warning("%d audit events could not be delivered to %s: %s", len(batch), self._to.authority, why)
        if last:
            figures.lost("webhook", len(batch))
        return False

    def close(self) -> None:
        return
