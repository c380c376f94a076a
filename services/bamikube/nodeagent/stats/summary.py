"""``/stats/summary``: the node and its pods in the words of ``stats/v1alpha1``. Pure."""

from __future__ import annotations

from dataclasses import asdict

from bamikube.kit.clock import rfc3339
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.stats import network
from bamikube.nodeagent.stats.disks import Disk, Taken
from bamikube.nodeagent.stats.groups import Figures
from bamikube.nodeagent.stats.network import Interface
from bamikube.nodeagent.stats.sampler import NODE, Files, Sample
from bamikube.nodeagent.stats.subjects import Member, Subject


class _Summary:
    def __init__(self, sample: Sample, files: Files) -> None:
        self._sample, self._files = sample, files
        self._time = rfc3339(sample.time)

    # -- parts -------------------------------------------------------------------------------------------------

    def cpu(self, figures: Figures, group: str) -> JSON:
        cpu = {"time": self._time, "usageNanoCores": 0, "usageCoreNanoSeconds": figures.cpu}
        cpu["usageNanoCores"] = self._sample.rates.get(group, 0)
        return cpu | _stalls(figures, "cpu")

    def memory(self, figures: Figures, capacity: int = 0) -> JSON:
        limit = figures.limit or capacity
        return {
            "time": self._time,
            **({"availableBytes": max(0, limit - figures.working_set)} if limit else {}),
            "usageBytes": figures.memory,
            "workingSetBytes": figures.working_set,
            "rssBytes": figures.rss,
            "pageFaults": figures.page_faults,
            "majorPageFaults": figures.major_faults,
            **_stalls(figures, "memory"),
        }

    def swap(self, figures: Figures) -> JSON:
        room = max(0, figures.swap_limit - figures.limit) if figures.swap_limit else 0
        return {
            "time": self._time,
            "swapAvailableBytes": max(0, room - figures.swap),
            "swapUsageBytes": figures.swap,
        }

    def network(self, found: tuple[Interface, ...]) -> JSON:
        first = network.main(found)
        return {
            "time": self._time,
            **(_interface(first) if first is not None else {"name": ""}),
            "interfaces": [_interface(one) for one in found],
        }

    def disk(self, disk: Disk, taken: Taken | None = None, used: int | None = None) -> JSON:
        if taken is not None:
            used, inodes_used = taken.bytes, taken.inodes
        else:
            used, inodes_used = disk.used if used is None else used, disk.inodes_used
        return {
            "time": self._time,
            "availableBytes": disk.available,
            "capacityBytes": disk.capacity,
            "usedBytes": used,
            "inodesFree": disk.inodes_free,
            "inodes": disk.inodes,
            "inodesUsed": inodes_used,
        }

    def usage(self, group: str) -> JSON:
        figures = self._sample.figures.get(group)
        if figures is None:
            return {}
        return {
            "cpu": self.cpu(figures, group),
            "memory": self.memory(figures),
            "swap": self.swap(figures),
            **self.io(figures),
        }

    def io(self, figures: Figures) -> JSON:
        stalls = _stalls(figures, "io")
        return {"io": {"time": self._time, **stalls}} if stalls else {}

    # -- a pod -------------------------------------------------------------------------------------------------

    def pod(self, subject: Subject) -> JSON:
        processes = sum(len(self._processes(g)) for g in subject.groups()[1:])
        pod: JSON = {
            "podRef": {"name": subject.name, "namespace": subject.namespace, "uid": subject.uid},
            "startTime": rfc3339(subject.started),
            "containers": [self.container(subject, member) for member in subject.members],
            **self.usage(subject.group),
        }
        if found := self._sample.networks.get(subject.uid):
            pod["network"] = self.network(found)
        pod["volume"] = [
            self.volume(subject, volume, name)
            for volume in subject.pod["spec"].get("volumes") or ()
            for name in (volume["name"],)
            if (subject.uid, name) in self._files.volumes
        ]
        pod["ephemeral-storage"] = self.disk(self._files.node, self.ephemeral(subject))
        pod["process_stats"] = {"process_count": processes}
        return pod

    def _processes(self, group: str) -> tuple[int, ...]:
        figures = self._sample.figures.get(group)
        return figures.processes if figures is not None else ()

    def container(self, subject: Subject, member: Member) -> JSON:
        container = member.container
        layer = self._files.layers.get(container.id)
        written = Taken(layer.bytes, layer.inodes) if layer is not None else Taken()
        logs = self._files.logs.get((subject.uid, container.name), Taken())
        return {
            "name": container.name,
            "startTime": rfc3339(container.started_at or container.created_at),
            **self.usage(member.group),
            "rootfs": self.disk(self._files.images, written),
            "logs": self.disk(self._files.node, logs),
        }

    def volume(self, subject: Subject, volume: JSON, name: str) -> JSON:
        disk, taken = self._files.volumes[subject.uid, name]
        claim = volume.get("persistentVolumeClaim")
        in_memory = (volume.get("emptyDir") or {}).get("medium") == "Memory"
        stats: JSON = {"name": name} | self.disk(disk, None if claim or in_memory else taken)
        if claim:
            stats["pvcRef"] = {"name": claim["claimName"], "namespace": subject.namespace}
        return stats

    def ephemeral(self, subject: Subject) -> Taken:
        """What counts against a limit of ephemeral-storage: written layers, logs, and volumes on the node's disk."""
        total = Taken()
        for member in subject.members:
            layer = self._files.layers.get(member.container.id)
            total += Taken(layer.bytes, layer.inodes) if layer is not None else Taken()
            total += self._files.logs.get((subject.uid, member.container.name), Taken())
        for name in facts.local_volumes(subject.pod):
            total += self._files.volumes.get((subject.uid, name), (None, Taken()))[1]
        return total

    # -- the node ----------------------------------------------------------------------------------------------

    def node(self, name: str, booted: float, rlimit: JSON, systems: list[JSON]) -> JSON:
        memory = self._sample.memory
        node: JSON = {"nodeName": name, "systemContainers": systems, "startTime": rfc3339(booted)}
        figures = self._sample.figures.get(NODE)
        if figures is not None:
            node["cpu"] = self.cpu(figures, NODE)
            node["memory"] = self.memory(figures, memory.get("MemTotal", 0))
            node |= self.io(figures)
        node |= {
            "network": self.network(self._sample.networks.get("", ())),
            "fs": self.disk(self._files.node),
            "runtime": {
                "imageFs": self.disk(self._files.images, used=self._files.images_used),
                "containerFs": self.disk(
                    self._files.images, used=sum(layer.bytes for layer in self._files.layers.values())
                ),
            },
            "rlimit": {"time": self._time, **rlimit},
            "swap": {
                "time": self._time,
                "swapAvailableBytes": memory.get("SwapFree", 0),
                "swapUsageBytes": memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
            },
        }
        return node


def summary(
    sample: Sample, files: Files, node: str, booted: float, rlimit: JSON, systems: list[JSON]
) -> JSON:
    """The whole answer; ``systems`` are the parts of the node that are no pods."""
    made = _Summary(sample, files)
    pods = {"name": "pods", "startTime": rfc3339(booted)}
    above = next((g for g in sample.figures if g.endswith(("/kubepods", "/kubepods.slice"))), "")
    parts = [*systems, pods | made.usage(above)]
    return {
        "node": made.node(node, booted, rlimit, parts),
        "pods": [made.pod(subject) for subject in sample.subjects],
    }


def _stalls(figures: Figures, kind: str) -> JSON:
    """How long tasks have waited for something; nothing where the kernel does not tell."""
    found = next((one for one in figures.pressure if one.kind == kind), None)
    return {"psi": {"full": asdict(found.full), "some": asdict(found.some)}} if found is not None else {}


def _interface(one: Interface) -> JSON:
    return {
        "name": one.name,
        "rxBytes": one.rx_bytes,
        "rxErrors": one.rx_errors,
        "txBytes": one.tx_bytes,
        "txErrors": one.tx_errors,
    }
