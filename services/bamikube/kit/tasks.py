"""Tasks that somebody owns.

A bare ``create_task`` may be garbage-collected, its exception may never be seen, and nobody knows it when a
service stops. :class:`Tasks` keeps every task it spawned, logs what failed, and ends them all on ``close``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one component. ``close`` cancels them and waits until they are gone."""

    def __init__(self, name: str) -> None:
        self.name = name
        # In the order they were spawned, so that ending them is the same in every run.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Start ``work`` now. Its failure is logged; whoever awaits the task gets the exception too."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self.name} is closing: no new tasks")
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}/{name}" if name else self.name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %r", task.get_name(), error, exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        self._closed = True
        me = asyncio.current_task()
        waiting = [task for task in self._tasks if task is not me]
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.gather(*waiting, return_exceptions=True)
