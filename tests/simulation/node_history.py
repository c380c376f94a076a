"""One history of a node: an API server, people who make and delete pods, manifests that come and go, and a machine on which
everything that can go wrong does. The node agent above it is the real one, and dies at any point.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.nodeagent.sources.manifest import parse
from tests.simulation import node_pods
from tests.simulation.agent_node import AgentNode
from tests.simulation.cluster import Cluster
from tests.simulation.fuse import Fuse
from tests.simulation.invariants import Broken
from tests.simulation.machine import Machine
from tests.simulation.node_invariants import NodeWitness, owner
from tests.simulation.virtual import run

NODE = "node-1"
TROUBLE_SECONDS = 150.0
REST_SECONDS = 1200.0
PODS = 6  # at most, at a time
FAULTS = (
    "point", "point", "point", "point", "kill", "kill", "runtime-restart", "runtime-hang", "lost-answers", "api-down",
    "partition", "loss", "conflict", "crash", "sandbox", "sick", "reboot", "reboot-forgotten", "lose-watch",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """What a history was like; equal for equal seeds."""

    seed: int
    revision: int
    faults: tuple[str, ...]
    starts: int
    rested_at: float


class NodeLife:
    """The machine of one node, and one node agent after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.world = cluster, cluster.world
        self.machine = Machine(NODE, 1, cluster.world)
        self.witness = NodeWitness(self.machine, cluster.store)
        self.machine.witness = self.witness
        self.witness.put_out = self._put_out
        self.fuse = Fuse()
        self.points: list[str] = []
        self.node: AgentNode | None = None
        self.held = asyncio.Event()  # unset: the agent stays down
        self.held.set()

    def _put_out(self, uid: str) -> bool:
        worker = self.node.agent.workers.get(uid) if self.node is not None else None
        return worker is not None and worker.memory.rejected is not None

    async def run(self) -> None:
        """As an init system does: another agent whenever one has died."""
        while True:
            await self.held.wait()
            self.fuse = Fuse()
            self.witness.began = self.world.clock.now()
            transport = self.cluster.client(f"system:node:{NODE}", "system:nodes").transport
            self.node = AgentNode(transport, self.machine, self.fuse)
            await self.node.run()
            self.points.append(self.fuse.point)
            await self.world.clock.sleep(self.world.chance.choice((0.2, 1.0, 5.0, 30.0)))

    def describe(self, path: str, text: str | None) -> None:
        """A manifest is written, or removed."""
        if text is None:
            self.machine.manifests.pop(path, None)
        else:
            self.machine.manifests[path] = text
        pods = [parse(text.encode(), NODE, path, 0.0) for path, text in self.machine.manifests.items()]
        statics = {pod["metadata"]["uid"]: pod for pod in pods}
        self.witness.lapse(self.witness.statics.keys() - statics.keys())
        self.witness.statics = statics


def play(seed: int) -> NodeOutcome:
    """Live through the history of ``seed``. Raises Broken with everything that did not hold."""
    return run(_play(seed))


async def _play(seed: int) -> NodeOutcome:
    cluster = Cluster(seed, nodes=0, controllers=0, schedulers=0, servers=1)
    life = NodeLife(cluster)
    cluster.tasks.spawn(life.witness.run(), "witness")
    try:
        await cluster.up()
        meta = {"name": "default", "namespace": "default"}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
        await cluster.client("person").create("serviceaccounts", account)
        cluster.tasks.spawn(life.run(), "node")
        using = cluster.tasks.spawn(_use(life), "uses")
        faults: list[str] = []
        await _strike(life, faults)
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        cluster.network.loss = cluster.network.cut = life.machine.loss = 0.0
        rested = await _rest(life)
        if life.witness.problems:
            raise Broken(f"seed {seed}, {faults}, {life.points}:\n" + "\n".join(life.witness.problems))
        starts = sum(map(len, life.witness.lives.values()))
        return NodeOutcome(seed, await cluster.store.revision(), tuple(faults), starts, round(rested, 6))
    except Broken as broken:
        raise Broken(f"seed {seed}, {life.points}:\n{broken}\n" + "\n".join(life.witness.problems)) from None
    finally:
        await cluster.close()
        await life.machine.close()


async def _rest(life: NodeLife) -> float:
    world = life.world
    start = world.clock.monotonic()
    reasons = ["?"]
    while world.clock.monotonic() < start + REST_SECONDS:
        await world.clock.sleep(3.0)
        reasons = life.witness.unsettled()
        if not reasons and not life.fuse.blown:
            return world.clock.monotonic() - start
    raise Broken("the node does not come to rest:\n" + "\n".join(reasons))


# -- people ------------------------------------------------------------------------------------------------------------


async def _use(life: NodeLife) -> None:
    world, client = life.world, life.cluster.client("person")
    for number in range(2):
        await _make(client, f"rock-{number}", life)
    number = 0
    while True:
        await world.clock.sleep(world.chance.uniform(0.2, 6.0))
        act = world.chance.choice(
            ("create", "create", "create", "delete", "force", "again", "image", "manifest", "mirror")
        )
        with contextlib.suppress(ApiError, OSError):
            names = sorted(
                pod["metadata"]["name"]
                for pod in life.witness.pods.values()
                if pod["metadata"]["name"].startswith("pod-")
            )
            if act == "create" and len(names) < PODS:
                number += 1
                await _make(client, f"pod-{number}", life)
            elif act == "manifest":
                path = f"/m/{world.chance.choice('ab')}.json"
                gone = path in life.machine.manifests and world.chance.random() < 0.5
                life.describe(path, None if gone else node_pods.manifest(path[3], world.chance))
            elif act == "mirror":
                mirrors = [
                    p["metadata"]["name"]
                    for p in life.witness.pods.values()
                    if p["metadata"]["name"].endswith(NODE)
                ]
                if mirrors:
                    life.witness.unmirrored = True
                    await client.delete(
                        "pods",
                        world.chance.choice(mirrors),
                        "default",
                        grace_seconds=world.chance.choice((0, 5)),
                    )
            elif not names:
                continue
            elif act == "image":
                image = {"name": "app0", "image": f"app:{world.chance.randrange(0, 4)}"}
                await client.patch(
                    "pods",
                    world.chance.choice(names),
                    {"spec": {"containers": [image]}},
                    "default",
                    kind="strategic",
                )
            else:
                name = world.chance.choice(names)
                grace = 0 if act == "force" else world.chance.randrange(1, 8)
                await client.delete("pods", name, "default", grace_seconds=grace)
                if act != "delete":
                    await _make(client, name, life)


async def _make(client: Any, name: str, life: NodeLife) -> None:
    await client.create("pods", node_pods.pod(name, NODE, life.world.chance))


# -- faults ------------------------------------------------------------------------------------------------------------


async def _strike(life: NodeLife, faults: list[str]) -> None:
    world = life.world
    chance = world.chance
    life.machine.runtime.missing = {f"app:{number}" for number in range(1, 4)}
    end = world.clock.monotonic() + TROUBLE_SECONDS
    while world.clock.monotonic() < end:
        await world.clock.sleep(chance.uniform(0.5, 10.0))
        fault = chance.choice(FAULTS)
        faults.append(fault)
        if fault == "point":
            life.fuse.arm(chance.randrange(1, 25), chance.random() < 0.5)
        elif fault == "kill":
            life.fuse.blow("when it was killed")
        elif fault in ("reboot", "reboot-forgotten"):
            await _reboot(life, fault == "reboot-forgotten")
        elif fault.startswith("runtime-"):
            seconds = chance.choice((0.1, 2.0, 20.0, 200.0 if chance.random() < 0.2 else 5.0))
            await (life.machine.hang if fault == "runtime-hang" else life.machine.restart_runtime)(seconds)
        elif fault == "lost-answers":
            life.machine.loss = 0.3
            await world.clock.sleep(chance.uniform(1.0, 10.0))
            life.machine.loss = 0.0
        elif fault in ("crash", "sandbox", "sick"):
            _harm(life, fault)
        else:
            await _part(life, fault)


async def _reboot(life: NodeLife, lost: bool) -> None:
    life.held.clear()
    life.fuse.blow("when the machine went down")
    life.witness.disturbed |= set(life.witness.pods) | set(life.witness.statics)
    life.machine.reboot(lost)
    await life.world.clock.sleep(life.world.chance.uniform(1.0, 20.0))
    life.held.set()


def _harm(life: NodeLife, fault: str) -> None:
    """A container or a sandbox of a pod ends by itself, or its probes begin to fail."""
    chance, runtime = life.world.chance, life.machine.runtime
    running = [c for c in runtime.containers.values() if c.state == "running"]
    if not running:
        return
    victim = chance.choice(running)
    life.witness.disturbed.add(owner(victim))
    if fault == "sick":
        life.machine.sick.add(victim.id)
        return
    within = [c for c in running if fault == "sandbox" and c.sandbox_id == victim.sandbox_id]
    for container in within or [victim]:
        runtime.end(container.id, 137)
    if fault == "sandbox":
        runtime.fail_sandbox(victim.sandbox_id)


async def _part(life: NodeLife, fault: str) -> None:
    """The API server is away, or answers what nobody wants to hear."""
    world, chance, network = life.world, life.world.chance, life.cluster.network
    if fault == "api-down":
        life.cluster.processes["apiserver-1"].kill()
    elif fault == "lose-watch":
        life.cluster.store.lose_watch()
    elif fault == "partition":
        network.partitioned.add(f"system:node:{NODE}")
        await world.clock.sleep(chance.uniform(0.5, 40.0))
        network.partitioned.clear()
    elif fault == "loss":
        network.loss, network.cut = 0.1, 0.05
        await world.clock.sleep(chance.uniform(1.0, 10.0))
        network.loss = network.cut = 0.0
    elif fault == "conflict":
        with contextlib.suppress(ApiError, OSError):
            await _write_beside(life)


async def _write_beside(life: NodeLife) -> None:
    """Somebody else writes into a pod's status, time and again, and does not know what the node agent writes."""
    world, client = life.world, life.cluster.client("other")
    pods = sorted(life.witness.pods.values(), key=lambda pod: str(pod["metadata"]["name"]))
    if not pods:
        return
    meta = world.chance.choice(pods)["metadata"]
    for number in range(5):
        held = await client.get("pods", meta["name"], meta["namespace"])
        status = json.loads(json.dumps(held.get("status") or {}))
        others = [c for c in status.get("conditions") or () if c["type"] != "example.org/other"]
        mark = {"type": "example.org/other", "status": "True", "reason": f"R{number}"}
        status["conditions"] = [*others, mark]
        await client.update("pods", held | {"status": status}, subresource="status")
        await world.clock.sleep(0.05)
