"""Flow schemas say whether the priority level they refer to exists: the condition ``Dangling``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.predicates.conditions import put
from bamikube.api.times import stamp
from bamikube.apiserver.bootstrap.loop import Writer
from bamikube.apiserver.flow.control import LEVELS, SCHEMAS
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World
from bamikube.store.port import StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]
_RETRY = 1.0  # seconds


def judged(schema: Object, exists: bool, now: float) -> Object | None:
    """The schema with its condition; None when it says so already."""
    level = ((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name", "")
    about = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    condition = {
        "type": "Dangling",
        "status": "False" if exists else "True",
        "reason": "Found" if exists else "NotFound",
        "message": f"{about} and it exists" if exists else f"{about} but there is no such object",
    }
    before = list((schema.get("status") or {}).get("conditions") or ())
    conditions = put(before, condition, stamp(now))
    return None if conditions == before else {**schema, "status": {"conditions": conditions}}


class FlowStatus:
    """Keeps the condition of every schema true."""

    def __init__(self, reader: Reader, writer: Writer, world: World) -> None:
        self._reader = reader
        self._writer = writer
        self._world = world
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        for key in (SCHEMAS, LEVELS):
            self._reader.subscribe(key, lambda _type, _old, _new: self._changed.set())
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._pass():
                await self._world.clock.sleep(_RETRY)
                self._changed.set()

    async def _pass(self) -> bool:
        row = table.by_name("flowschemas.flowcontrol.apiserver.k8s.io")
        complete = True
        for schema in self._reader.list(SCHEMAS):
            level = ((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name", "")
            exists = self._reader.get(LEVELS, "", level) is not None
            wanted = judged(schema, exists, self._world.clock.now())
            if wanted is None:
                continue
            try:
                await self._writer.update(row, wanted, subresource="status")
            except (ApiError, StoreError) as problem:
                complete = False
                log.debug("status of flow schema %s: %s", schema["metadata"]["name"], problem)
        return complete
