"""People at work on a cluster that is struck by faults meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from tests.simulation.cluster import Cluster

SECONDS = 60.0
FAULTS = ("lose-watch", "slow", "kill", "silent", "compact")


async def strike(cluster: Cluster, killed: Sequence[str], faults: Sequence[str]) -> None:
    """One fault after the other; ``killed`` are the processes that die."""
    world, store = cluster.world, cluster.store
    cluster.network.loss = world.chance.choice((0.0, 0.02))
    end = world.clock.monotonic() + SECONDS
    while world.clock.monotonic() < end:
        await world.clock.sleep(world.chance.uniform(1.0, 8.0))
        match world.chance.choice(faults):
            case "lose-watch":
                store.lose_watch()
            case "slow":
                store.slow(world.chance.uniform(0.01, 0.3))
                await world.clock.sleep(world.chance.uniform(0.5, 4.0))
                store.slow(0.0)
            case "kill":
                cluster.processes[world.chance.choice(killed)].kill()
            case "silent":
                store.pause()
                await world.clock.sleep(world.chance.uniform(0.5, 5.0))
                store.resume()
            case "compact":
                with contextlib.suppress(Exception):
                    await store.compact(await store.revision())
    cluster.network.loss = 0.0


async def work_through(
    cluster: Cluster,
    work: Sequence[Coroutine[Any, Any, None]],
    killed: Sequence[str],
    faults: Sequence[str] = FAULTS,
) -> None:
    """``work`` goes on while the cluster is struck, and ends with the last fault."""
    tasks = [cluster.tasks.spawn(each, each.__name__) for each in work]
    await strike(cluster, killed, faults)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
