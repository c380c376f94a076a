"""What containers use: CPU as a rate from two samples, memory now; as stats summary and as metrics.

The runtime reports cumulative CPU time. A rate is what lies between two of our own samples, at least a second
apart, so that two readers do not disturb each other.
"""

from __future__ import annotations

from pathlib import Path

from bamikube.kit.clock import rfc3339
from bamikube.kit.world import World
from bamikube.nodeagent import labels
from bamikube.nodeagent.node.facts import meminfo
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import ContainerUsage, Runtime

FRESH = 1.0  # seconds a sample is good for


class Usage:
    """Samples of all containers of the node."""

    def __init__(self, runtime: Runtime, world: World, node: str) -> None:
        self._runtime, self._world, self._node = runtime, world, node
        self._samples: list[ContainerUsage] = []
        self._rates: dict[str, int] = {}
        self._taken = float("-inf")
        self._node_cpu = (0.0, 0)
        self._node_rate = 0

    async def sample(self) -> list[ContainerUsage]:
        """The current samples; rates follow from the previous ones."""
        now = self._world.clock.monotonic()
        if now - self._taken < FRESH:
            return self._samples
        before = {item.id: item for item in self._samples}
        self._samples = await self._runtime.usage()
        self._taken = now
        self._rates = {}
        for item in self._samples:
            old = before.get(item.id)
            if old is not None and item.timestamp > old.timestamp:
                spent = item.cpu_core_nanoseconds - old.cpu_core_nanoseconds
                self._rates[item.id] = int(spent / (item.timestamp - old.timestamp))
        total = _node_cpu_nanoseconds()
        then, old_total = self._node_cpu
        if old_total and now > then:
            self._node_rate = int((total - old_total) / (now - then))
        self._node_cpu = (now, total)
        return self._samples

    async def summary(self) -> JSON:
        """``/stats/summary``: the node, and pods with their containers."""
        samples = await self.sample()
        time = rfc3339(self._world.clock.now())
        pods: dict[str, JSON] = {}
        for item in samples:
            uid = item.labels.get(labels.POD_UID, "")
            ref = {
                "name": item.labels.get(labels.POD_NAME, ""),
                "namespace": item.labels.get(labels.POD_NAMESPACE, ""),
                "uid": uid,
            }
            pod = pods.setdefault(uid, {"podRef": ref, "startTime": time, "containers": []})
            pod["containers"].append({"name": item.name, "startTime": time, **self._figures(item, time)})
        for pod in pods.values():
            pod["cpu"] = _sum(pod["containers"], "cpu", ("usageNanoCores", "usageCoreNanoSeconds"), time)
            pod["memory"] = _sum(
                pod["containers"], "memory", ("usageBytes", "workingSetBytes", "rssBytes"), time
            )
        node = {
            "nodeName": self._node,
            "startTime": time,
            "cpu": {
                "time": time,
                "usageNanoCores": self._node_rate,
                "usageCoreNanoSeconds": self._node_cpu[1],
            },
            "memory": _node_memory(time),
        }
        return {"node": node, "pods": list(pods.values())}

    def _figures(self, item: ContainerUsage, time: str) -> JSON:
        cpu: JSON = {"time": time, "usageCoreNanoSeconds": item.cpu_core_nanoseconds}
        if item.id in self._rates:
            cpu["usageNanoCores"] = self._rates[item.id]
        memory = {
            "time": time,
            "usageBytes": item.memory_usage,
            "workingSetBytes": item.memory_working_set,
            "rssBytes": item.memory_rss,
        }
        return {"cpu": cpu, "memory": memory, "rootfs": {"time": time, "usedBytes": item.filesystem_used}}

    async def resource_metrics(self) -> str:
        """``/metrics/resource`` in Prometheus' text format, as metrics-server reads it."""
        samples = await self.sample()
        lines = ["# TYPE container_cpu_usage_seconds_total counter"]
        cpu, memory = [], []
        pod_cpu: dict[tuple[str, str], float] = {}
        pod_memory: dict[tuple[str, str], int] = {}
        for item in samples:
            pod = (item.labels.get(labels.POD_NAMESPACE, ""), item.labels.get(labels.POD_NAME, ""))
            names = f'container="{item.name}",namespace="{pod[0]}",pod="{pod[1]}"'
            stamp = int(item.timestamp * 1000)
            seconds = item.cpu_core_nanoseconds / 1e9
            cpu.append(f"container_cpu_usage_seconds_total{{{names}}} {seconds} {stamp}")
            memory.append(f"container_memory_working_set_bytes{{{names}}} {item.memory_working_set} {stamp}")
            pod_cpu[pod] = pod_cpu.get(pod, 0.0) + seconds
            pod_memory[pod] = pod_memory.get(pod, 0) + item.memory_working_set
        lines += cpu
        lines += [
            "# TYPE container_memory_working_set_bytes gauge",
            *memory,
            "# TYPE node_cpu_usage_seconds_total counter",
        ]
        now = int(self._world.clock.now() * 1000)
        lines.append(f"node_cpu_usage_seconds_total {_node_cpu_nanoseconds() / 1e9} {now}")
        lines.append("# TYPE node_memory_working_set_bytes gauge")
        lines.append(f"node_memory_working_set_bytes {_node_memory('')['workingSetBytes']} {now}")
        lines.append("# TYPE pod_cpu_usage_seconds_total counter")
        lines += [
            f'pod_cpu_usage_seconds_total{{namespace="{n}",pod="{p}"}} {v} {now}'
            for (n, p), v in pod_cpu.items()
        ]
        lines.append("# TYPE pod_memory_working_set_bytes gauge")
        lines += [
            f'pod_memory_working_set_bytes{{namespace="{n}",pod="{p}"}} {v} {now}'
            for (n, p), v in pod_memory.items()
        ]
        lines += ["# TYPE scrape_error gauge", "scrape_error 0", ""]
        return "\n".join(lines)


def _sum(containers: list[JSON], part: str, fields: tuple[str, ...], time: str) -> JSON:
    return {"time": time} | {f: sum(c[part].get(f, 0) for c in containers) for f in fields}


def _node_cpu_nanoseconds() -> int:
    """All processors' busy time since boot."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = [int(word) for word in words]
    busy = sum(ticks[:8]) - ticks[3] - ticks[4]
    return busy * 10_000_000


def _node_memory(time: str) -> JSON:
    info = meminfo()
    used = info["MemTotal"] - info.get("MemAvailable", 0)
    return {
        "time": time,
        "availableBytes": info.get("MemAvailable", 0),
        "usageBytes": used,
        "workingSetBytes": used,
    }
