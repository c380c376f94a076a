"""The answers to who asks what is used: summary, resource metrics, cadvisor's metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bamikube.kit import metrics
from bamikube.kit.build import BUILD
from bamikube.kit.world import World
from bamikube.nodeagent.host.threads import beside
from bamikube.nodeagent.node.facts import VERSION, Machine, meminfo
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.stats.cadvisor import Processor, cadvisor_metrics
from bamikube.nodeagent.stats.own import Standing, own_metrics
from bamikube.nodeagent.stats.resource import resource_metrics
from bamikube.nodeagent.stats.sampler import Sampler
from bamikube.nodeagent.stats.summary import summary
from bamikube.nodeagent.stats.system import Systems, limits


class Stats:
    """Everything is read when it is asked for."""

    def __init__(self, world: World, sampler: Sampler, node: str, machine: Machine, endpoint: str) -> None:
        self._world, self._sampler, self._node, self._machine = world, sampler, node, machine
        BUILD.labels("1", VERSION.split(".")[1], VERSION, f"linux/{machine.architecture}").set(1)
        self._systems = Systems(str(Path(endpoint.removeprefix("unix://"))))

    async def summary(self, cpu_and_memory_only: bool = False) -> JSON:
        """``/stats/summary``; with ``only_cpu_and_memory`` without what has to be counted on disks."""
        files = await self._sampler.files()
        sample = await self._sampler.sample(detailed=True)
        parts = self._systems.parts(sample.time)
        found = summary(sample, files, self._node, self._systems.booted, limits(), parts)
        return _cpu_and_memory(found) if cpu_and_memory_only else found

    async def resource_metrics(self) -> bytes:
        return resource_metrics(await self._sampler.sample())

    async def own_metrics(self, workers: list[PodWorker], standing: Standing) -> bytes:
        """What is counted, and how things stand."""
        files = await self._sampler.files()
        now, running = self._world.clock.now(), self._sampler.subjects()
        standing = replace(standing, cgroups=2 if self._sampler.v2 else 1)
        return metrics.render() + own_metrics(self._node, workers, running, files, standing, now)

    async def cadvisor_metrics(self) -> bytes:
        files = await self._sampler.files()
        sample = await self._sampler.sample(detailed=True)
        machine = self._machine
        processor = Processor(
            machine.cpus, machine.memory, meminfo().get("SwapTotal", 0), machine.machine_id,
            machine.system_uuid, machine.boot_id, machine.kernel, machine.os_image,
        )  # fmt: skip
        # A megabyte of text for a full node: made on a thread, so that pods need not wait for it.
        return await beside(lambda: cadvisor_metrics(sample, files, processor))


def _cpu_and_memory(found: JSON) -> JSON:
    """What ``?only_cpu_and_memory=true`` leaves of a summary."""
    kept = ("name", "podRef", "nodeName", "startTime", "cpu", "memory", "swap")

    def cut(one: JSON) -> JSON:
        return {key: value for key, value in one.items() if key in kept}

    node, pods = found["node"], found["pods"]
    return {
        "node": cut(node) | {"systemContainers": [cut(c) for c in node["systemContainers"]]},
        "pods": [cut(pod) | {"containers": [cut(c) for c in pod["containers"]]} for pod in pods],
    }
