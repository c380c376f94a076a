"""Keeps running containers on the processors that are theirs: the shared pool shrinks and grows as pods come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from bamikube.kit.world import World
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.pod.resizer import holds
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Resources, Runtime, RuntimeFailure

log = logging.getLogger(__name__)


class Binder:
    """Every ``period`` seconds what the runtime was told is compared with what is right."""

    def __init__(
        self,
        world: World,
        runtime: Runtime,
        managers: Managers,
        workers: Callable[[], Iterable[PodWorker]],
        period: float,
    ) -> None:
        self._world, self._runtime, self._managers = world, runtime, managers
        self._workers, self._period = workers, period
        self._told: dict[str, str] = {}  # by container id

    async def run(self) -> None:
        while True:
            await self._world.clock.sleep(
                self._period
            )  # first, so that the pods there are have workers again
            try:
                await self.settle()
            except RuntimeFailure as failure:
                log.warning("cannot move containers to their processors yet: %s", failure)

    async def settle(self) -> None:
        """Take back what pods that have ended had, and move containers. Raises RuntimeFailure."""
        workers = list(self._workers())
        self._managers.keep({worker.uid for worker in workers if holds(worker)})
        if self._managers.cpus is None:
            return
        running = [(worker.uid, one) for worker in workers for one in worker.state.running()]
        told = {one.id: self._told.get(one.id, "") for _, one in running}
        self._told = told
        for uid, one in running:
            right = self._managers.cpus.of(uid, one.name)
            if told[one.id] != right:
                await self._runtime.update_container(one.id, Resources(cpus=right))
                told[one.id] = right
