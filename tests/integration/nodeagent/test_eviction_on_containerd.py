"""Pods that have to go, with real containers, cgroups and folders: above a limit of their own, or the node being short."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bamikube.kit.metrics import REGISTRY
from bamikube.nodeagent.eviction import thresholds
from bamikube.nodeagent.eviction.looks import SampledLooks
from bamikube.nodeagent.eviction.loop import Evictor, Policy
from bamikube.nodeagent.eviction.refusing import refusal
from bamikube.nodeagent.node.reservations import Bounds
from bamikube.nodeagent.stats.groups import Groups
from bamikube.nodeagent.stats.sampler import Sampler
from bamikube.nodeagent.stats.subjects import Subject, subjects

JSON = dict[str, Any]
FOREVER = ["sh", "-c", "trap : TERM; sleep 1000 & wait"]


def evictor(node: Any, told: list[tuple[str, str]], **flags: dict[str, str]) -> Evictor:
    host = node.host

    def chosen() -> list[Subject]:
        return subjects(list(node.workers.values()), host.cgroup_parent, False)

    async def free() -> None:
        told.append(("free", ""))

    world = node.shared.world
    sampler = Sampler(
        world,
        node.runtime,
        chosen,
        node.root,
        lambda s: host.log_directory(s.pod),
        host.volume_paths,
        Groups(),
        lambda: (str(Path(host.cgroup_parent({"metadata": {}, "spec": {"containers": []}})).parent.parent),),
    )
    found = thresholds.parse(flags.get("hard", {}), flags.get("soft", {}), flags.get("grace", {}), {})
    return Evictor(
        world, Policy(found), SampledLooks(sampler), lambda: list(node.workers.values()),
        lambda reason, text: told.append((reason, text)), node.api.event, free,
    )  # fmt: skip


def evictions(signal: str) -> float:
    return REGISTRY.get_sample_value("kubelet_evictions", {"eviction_signal": signal}) or 0.0


async def ended(worker: Any, until: Any) -> JSON:
    await until(lambda: worker.status.get("phase") == "Failed" and worker.memory.cleaned)
    conditions = {c["type"]: c for c in worker.status["conditions"]}
    assert not worker.state.running()
    return {k: worker.status.get(k) for k in ("reason", "message")} | {
        "disruption": conditions.get("DisruptionTarget")
    }


async def test_a_volume_above_its_size_limit_ends_its_pod(node: Any, until: Any) -> None:
    fill = "head -c 2097152 /dev/zero > /cache/full; exec sleep 1000"
    containers = [
        {
            "name": "app",
            "command": ["sh", "-c", fill],
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        }
    ]
    spec = {"containers": containers, "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]}
    modest = {
        "containers": [{"name": "app", "command": FOREVER}],
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}],
    }
    full, other = node.run(node.pod("full", spec)), node.run(node.pod("modest", modest))
    await until(lambda: all(w.status.get("phase") == "Running" for w in (full, other)))
    folder = node.host.volume_paths(full.uid)["cache"]
    await until(lambda: (folder / "full").exists() and (folder / "full").stat().st_size == 2097152)
    before = evictions("emptydirfs.limit")
    assert await evictor(node, []).hold_to_limits() == [full]
    text = 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
    assert await ended(full, until) == {"reason": "Evicted", "message": text, "disruption": None}
    assert text in node.api.said("Evicted") and evictions("emptydirfs.limit") == before + 1
    assert not folder.exists() and other.state.running()


async def test_logs_count_against_a_container_and_its_pod(node: Any, until: Any) -> None:
    talk = "head -c 1500000 /dev/zero | tr '\\0' x | fold -w 80; exec sleep 1000"
    limits = {"limits": {"ephemeral-storage": "1Mi"}}
    single = {
        "containers": [
            {"name": "app", "command": ["sh", "-c", talk], "resources": limits},
            {"name": "b", "command": FOREVER, "resources": {"limits": {"ephemeral-storage": "8Mi"}}},
        ]
    }
    worker = node.run(node.pod("talker", single))
    await until(lambda: len(worker.state.running()) == 2)
    logs = node.logs / "pods" / f"default_talker_{worker.uid}" / "app" / "0.log"
    await until(lambda: logs.exists() and logs.stat().st_size > 1_500_000)
    assert await evictor(node, []).hold_to_limits() == [worker]
    text = 'Container app exceeded its local ephemeral storage limit "1Mi". '
    assert (await ended(worker, until))["message"] == text


async def test_a_node_short_of_memory_ends_the_largest_pod_and_takes_no_new_ones(
    node: Any, until: Any
) -> None:
    """Nearly all of the machine's memory has to be free: it never is."""
    hold = "head -c 41943040 /dev/zero | tail -c 41943040 | (sleep 1000)"  # tail keeps it all
    large = node.run(node.pod("large", {"containers": [{"name": "app", "command": ["sh", "-c", hold]}]}))
    small = node.run(node.pod("small", {"containers": [{"name": "app", "command": FOREVER}]}))
    kept = node.run(
        node.pod("kept", {"priority": 2_000_000_000, "containers": [{"name": "app", "command": FOREVER}]})
    )
    await until(lambda: all(w.status.get("phase") == "Running" for w in (large, small, kept)))
    group = node.host.cgroup_parent(large.pod)
    await until(lambda: (found := Groups().read(group, 0.0)) is not None and found.working_set > 35 * 2**20)
    told: list[tuple[str, str]] = []
    judge = evictor(node, told, hard={"memory.available": "99.9%"})
    first = await judge.round()
    assert first == [large] and told == [("EvictionThresholdMet", "Attempting to reclaim memory")]
    how = await ended(large, until)
    assert how["reason"] == "Evicted" and how["message"].startswith(
        "The node was low on resource: memory. Threshold quantity: "
    )
    assert (
        "Container app was using " in how["message"]
        and "request is 0, has larger consumption of memory. " in how["message"]
    )
    assert (
        how["disruption"]["reason"] == "TerminationByKubelet"
        and how["disruption"]["message"] == how["message"]
    )
    assert judge.conditions == ("MemoryPressure",)
    assert refusal(node.pod("new", {"containers": [{"name": "app"}]}), judge.conditions) is not None
    async with asyncio.timeout(10):
        while small not in await judge.round():  # noqa: ASYNC110 - each round is a look at the node
            await asyncio.sleep(0.1)
    await ended(small, until)
    assert await judge.round() == [] and kept.state.running(), (
        "a critical pod stays, whatever the node has left"
    )


async def test_a_full_disk_is_cleared_of_what_nobody_needs_first(node: Any, until: Any) -> None:
    done = node.run(
        node.pod("done", {"restartPolicy": "Never", "containers": [{"name": "app", "command": ["true"]}]})
    )
    web = node.run(node.pod("web", {"containers": [{"name": "app", "command": FOREVER}]}))
    await until(lambda: done.status.get("phase") == "Succeeded" and web.status.get("phase") == "Running")
    told: list[tuple[str, str]] = []
    judge = evictor(node, told, hard={"nodefs.available": "99.9%"})
    assert await judge.round() == [web], "nothing that was removed made that much room"
    assert told[0] == ("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage") and told[1] == (
        "free",
        "",
    )
    assert (
        not done.state.containers
        and done.status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    )
    assert "The node was low on resource: ephemeral-storage." in (await ended(web, until))["message"]


async def test_pods_together_are_held_to_what_the_node_may_give(node: Any, until: Any) -> None:
    """All pods may have 64 MiB, of which one has taken 40: less than the threshold is left, whatever the machine has."""
    await node.host.bound(Bounds(1024, 64 * 2**20, 500))
    hold = "head -c 41943040 /dev/zero | tail -c 41943040 | (sleep 1000)"
    worker = node.run(node.pod("large", {"containers": [{"name": "app", "command": ["sh", "-c", hold]}]}))
    group = node.host.cgroup_parent(worker.pod)
    await until(lambda: (found := Groups().read(group, 0.0)) is not None and found.working_set > 35 * 2**20)
    whole = Groups().read(str(Path(group).parent.parent), 0.0, detailed=True)
    assert whole is not None and whole.limit == 64 * 2**20
    assert await evictor(node, [], hard={"memory.available": "50Mi"}).round() == [worker]
    text = (await ended(worker, until))["message"]
    assert text.startswith("The node was low on resource: memory. Threshold quantity: 50Mi, available: ")
