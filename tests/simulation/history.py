"""One history: a cluster, people who use it, faults that strike it, and the judgement at the end."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from tests.simulation.cluster import Cluster
from tests.simulation.invariants import Broken, StoreWitness, Watcher, Writer, settled
from tests.simulation.virtual import run

# Virtual seconds of use and faults, and the most it may take afterwards to come to rest.
TROUBLE_SECONDS = 120.0
REST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a history was like; equal for equal seeds."""

    seed: int
    revision: int
    acknowledged: int
    breaks: int
    faults: tuple[str, ...]
    rested_at: float


def play(seed: int) -> Outcome:
    """Live through the history of ``seed``. Raises Broken with the seed and everything that did not hold."""
    return run(_play(seed))


async def _play(seed: int) -> Outcome:
    cluster = Cluster(seed)
    world = cluster.world
    witness = StoreWitness(cluster.store, world)
    cluster.tasks.spawn(witness.run(), "witness")
    try:
        await cluster.up()
        await cluster.client("person").create("resourcequotas", _quota())
        await world.clock.sleep(1.0)  # every server has heard of it; from now on it must be right
        watchers = [
            Watcher(cluster.client(f"watcher-{name}"), name, world) for name in ("pods", "configmaps")
        ]
        writers = [Writer(cluster.client(f"writer-{number}"), f"w{number}", world) for number in (1, 2)]
        for watcher in watchers:
            cluster.tasks.spawn(watcher.run(), "watcher")
        writing = [cluster.tasks.spawn(writer.run(), "writer") for writer in writers]
        faults: list[str] = []
        using = cluster.tasks.spawn(_use(cluster), "uses")
        await _strike(cluster, faults)
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        _heal(cluster)
        rested = await _rest(cluster)
        for writer in writers:
            writer.stopping = True
        await asyncio.gather(*writing)
        problems = [*witness.problems]
        client = cluster.client("judge")
        for watcher in watchers:
            problems += watcher.problems
        for writer in writers:
            problems += await writer.judge()
        problems += await _compare(cluster, client, watchers)
        if problems:
            raise Broken(f"seed {seed}, faults {faults}:\n" + "\n".join(problems))
        return Outcome(
            seed,
            await cluster.store.revision(),
            sum(writer.acknowledged for writer in writers),
            sum(watcher.breaks for watcher in watchers),
            tuple(faults),
            round(rested, 6),
        )
    finally:
        await cluster.close()


async def _use(cluster: Cluster) -> None:
    """Somebody makes, scales, updates and deletes Deployments."""
    world, client = cluster.world, cluster.client("person")
    number = 0
    names: list[str] = []
    while True:
        await world.clock.sleep(world.chance.uniform(1.0, 12.0))
        act = world.chance.choice(("create", "scale", "image", "image", "delete", "pod", "quota"))
        with contextlib.suppress(ApiError, OSError):
            if act == "create" and len(names) < 4:
                number += 1
                names.append(f"app-{number}")
                await client.create("deployments.apps", _deployment(names[-1], world.chance.randrange(1, 5)))
            elif act == "quota":
                room = {"hard": {"pods": str(world.chance.randrange(500, 1000))}}
                await client.patch("resourcequotas", "room", {"spec": room}, "default")
            elif not names:
                continue
            elif act == "scale":
                scale = {"spec": {"replicas": world.chance.randrange(0, 6)}}
                await client.patch(
                    "deployments.apps", world.chance.choice(names), scale, "default", subresource="scale"
                )
            elif act == "image":
                image = f"app:{world.chance.randrange(0, 4)}"
                patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
                await client.patch(
                    "deployments.apps", world.chance.choice(names), patch, "default", kind="strategic"
                )
            elif act == "delete" and len(names) > 1:
                name = names.pop(world.chance.randrange(0, len(names)))
                policy = world.chance.choice(("Background", "Foreground"))
                await client.delete("deployments.apps", name, "default", propagation=policy)
            elif act == "pod":
                pods = (await client.list("pods"))["items"]
                if pods:
                    meta = world.chance.choice(pods)["metadata"]
                    await client.delete("pods", meta["name"], meta["namespace"], grace_seconds=1)


def _quota() -> dict[str, Any]:
    """More than anybody will use: what is to be seen is whether the counting stays right."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "room", "namespace": "default"},
        "spec": {"hard": {"pods": "500", "count/pods": "1000", "count/deployments.apps": "100"}},
    }


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    tolerations = [
        {
            "key": f"node.kubernetes.io/{reason}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 5,
        }
        for reason in ("not-ready", "unreachable")
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "c", "image": "app:0"}],
                    "tolerations": tolerations,
                    "terminationGracePeriodSeconds": 2,
                },
            },
        },
    }


async def _strike(cluster: Cluster, faults: list[str]) -> None:
    """Something goes wrong every few seconds, for ``TROUBLE_SECONDS``."""
    world, store, network = cluster.world, cluster.store, cluster.network
    end = world.clock.monotonic() + TROUBLE_SECONDS
    network.loss, network.cut = world.chance.choice(((0.0, 0.0), (0.01, 0.01), (0.05, 0.03)))
    while world.clock.monotonic() < end:
        await world.clock.sleep(world.chance.uniform(2.0, 15.0))
        fault = world.chance.choice(
            (
                "lose-watch",
                "etcd-down",
                "etcd-slow",
                "etcd-silent",
                "kill",
                "kill",
                "kill",
                "node-down",
                "partition",
                "compact",
            )
        )
        victim = world.chance.choice(sorted(cluster.processes))
        node = world.chance.choice([name for name in sorted(cluster.processes) if name.startswith("node-")])
        faults.append(
            f"{fault}:{victim if fault == 'kill' else node if fault in ('node-down', 'partition') else ''}"
        )
        if fault == "lose-watch":
            store.lose_watch()
        elif fault == "etcd-down":
            store.unavailable(world.chance.uniform(0.5, 8.0))
        elif fault == "etcd-slow":
            store.slow(world.chance.uniform(0.01, 0.5))
            await world.clock.sleep(world.chance.uniform(1.0, 8.0))
            store.slow(0.0)
        elif fault == "etcd-silent":
            store.pause()
            await world.clock.sleep(world.chance.uniform(1.0, 12.0))
            store.resume()
        elif fault == "kill":
            cluster.processes[victim].kill()
        elif fault == "node-down":
            cluster.processes[node].stop()
            await world.clock.sleep(world.chance.uniform(1.0, 60.0))
            cluster.processes[node].start()
        elif fault == "partition":
            network.partitioned.add(f"system:node:{node}")
            await world.clock.sleep(world.chance.uniform(1.0, 60.0))
            network.partitioned.clear()
        elif fault == "compact":
            with contextlib.suppress(Exception):
                await store.compact(await store.revision())


def _heal(cluster: Cluster) -> None:
    cluster.network.loss = cluster.network.cut = 0.0
    cluster.network.partitioned.clear()
    cluster.store.resume()
    cluster.store.slow(0.0)
    for process in cluster.processes.values():
        process.start()


async def _rest(cluster: Cluster) -> float:
    """Wait until everything has converged; the virtual seconds it took."""
    world, client = cluster.world, cluster.client("judge")
    start = world.clock.monotonic()
    reasons: list[str] = ["no API server answers"]
    while world.clock.monotonic() < start + REST_SECONDS:
        with contextlib.suppress(ApiError, OSError):
            reasons = await settled(client)
            if not reasons:
                return world.clock.monotonic() - start
        await world.clock.sleep(2.0)
    raise Broken("the cluster does not come to rest:\n" + "\n".join(reasons))


async def _compare(cluster: Cluster, client: Client, watchers: list[Watcher]) -> list[str]:
    """What the watchers know must be what a consistent list shows, once they have caught up."""
    problems = []
    for watcher, resource in zip(watchers, ("pods", "configmaps"), strict=True):
        for _ in range(200):
            page = await client.list(resource)
            held = {
                f"{o['metadata'].get('namespace', '')}/{o['metadata']['name']}": o["metadata"][
                    "resourceVersion"
                ]
                for o in page["items"]
            }
            told = {key: obj["metadata"]["resourceVersion"] for key, obj in watcher.objects.items()}
            if held == told:
                break
            await cluster.world.clock.sleep(0.1)
        else:
            problems.append(
                f"{resource}: the watcher knows {sorted(told.items())}, the server holds {sorted(held.items())}"
            )
    return problems
