"""The PodResources API: which devices, processors and memory the pods of this node were given, for monitors on
``<root>/pod-resources/kubelet.sock``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bamikube.kit.tallies import Counters
from bamikube.nodeagent.devices.book import Book
from bamikube.nodeagent.devices.manager import listen
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.numa.state import Block
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.rpc.podresources import podresources_pb2 as pb
from bamikube.rpc.podresources import podresources_pb2_grpc


def _counter(name: str, text: str, *, total: bool) -> Counters:
    full = f"kubelet_pod_resources_endpoint_{name}"
    about = f"{text} endpoint. Broken down by server api version."
    return Counters(full, about, ("server_api_version",), total=total)


ENDPOINT = {
    "requests": _counter("requests", "Cumulative number of requests to the PodResource", total=True),
    "requests_list": _counter("requests_list", "Number of requests to the PodResource List", total=False),
    "requests_get": _counter("requests_get", "Number of requests to the PodResource Get", total=False),
    "errors_get": _counter(
        "errors_get", "Number of requests to the PodResource Get which returned error", total=False
    ),
    "requests_get_allocatable": _counter(
        "requests_get_allocatable",
        "Number of requests to the PodResource GetAllocatableResources",
        total=False,
    ),
}


def _count(call: str) -> None:
    ENDPOINT["requests"].of("v1").inc()
    ENDPOINT[f"requests_{call}"].of("v1").inc()


class PodResources(podresources_pb2_grpc.PodResourcesListerServicer):  # type: ignore[misc]
    """``pods`` are those that have not ended; ``managers`` know who has processors and memory of which NUMA nodes."""

    def __init__(
        self,
        root: Path,
        book: Callable[[], Book],
        pods: Callable[[], Iterable[JSON]],
        managers: Managers,
    ) -> None:
        self._path, self._book, self._pods = root / "pod-resources" / "kubelet.sock", book, pods
        self._managers = managers
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        podresources_pb2_grpc.add_PodResourcesListerServicer_to_server(self, self._server)
        listen(self._server, self._path)
        await self._server.start()

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    async def List(self, request: Any, context: Any) -> pb.ListPodResourcesResponse:
        _count("list")
        return pb.ListPodResourcesResponse(pod_resources=[self._of(pod) for pod in self._pods()])

    async def Get(self, request: pb.GetPodResourcesRequest, context: Any) -> pb.GetPodResourcesResponse:
        _count("get")
        name, namespace = request.pod_name, request.pod_namespace
        for pod in self._pods():
            if (pod["metadata"]["name"], pod["metadata"].get("namespace")) == (name, namespace):
                return pb.GetPodResourcesResponse(pod_resources=self._of(pod))
        ENDPOINT["errors_get"].of("v1").inc()
        await context.abort(grpc.StatusCode.UNKNOWN, f"pod {name} in namespace {namespace} not found")
        raise AssertionError

    async def GetAllocatableResources(self, request: Any, context: Any) -> pb.AllocatableResourcesResponse:
        _count("get_allocatable")
        book = self._book()
        cpus, memory = self._managers.cpus, self._managers.memory
        healthy = {name: [i for i, d in ds.items() if d.healthy] for name, ds in book.devices.items()}
        return pb.AllocatableResourcesResponse(
            devices=[d for name, ids in sorted(healthy.items()) for d in _devices(book, name, ids)],
            cpu_ids=sorted(cpus.allocatable()) if cpus is not None else (),
            memory=map(_memory, memory.allocatable()) if memory is not None else (),
        )

    def _of(self, pod: JSON) -> pb.PodResources:
        book, uid = self._book(), facts.uid(pod)
        cpus, memory = self._managers.cpus, self._managers.memory
        containers = []
        for spec in facts.all_containers(pod):
            if any(spec is i for i in facts.init_containers(pod)) and not facts.is_sidecar(spec):
                continue
            devices = [
                one
                for (owner, container, resource), given in sorted(book.given.items())
                if (owner, container) == (uid, spec["name"])
                for one in _devices(book, resource, given.ids)
            ]
            containers.append(
                pb.ContainerResources(
                    name=spec["name"],
                    devices=devices,
                    cpu_ids=sorted(cpus.own(uid, spec["name"])) if cpus is not None else (),
                    memory=map(_memory, memory.given.get(uid, {}).get(spec["name"], ()))
                    if memory is not None
                    else (),
                )
            )
        meta = pod["metadata"]
        return pb.PodResources(name=meta["name"], namespace=meta.get("namespace", ""), containers=containers)


def _memory(block: Block) -> pb.ContainerMemory:
    topology = pb.TopologyInfo(nodes=[pb.NUMANode(ID=node) for node in block.nodes])
    return pb.ContainerMemory(memory_type=block.resource, size=block.size, topology=topology)


def _devices(book: Book, resource: str, ids: Iterable[str]) -> list[pb.ContainerDevices]:
    """One entry per device, with the memory it is near to."""
    found = []
    for one in sorted(ids):
        device = book.devices.get(resource, {}).get(one)
        topology = None
        if device is not None and device.nodes:
            topology = pb.TopologyInfo(nodes=[pb.NUMANode(ID=node) for node in device.nodes])
        found.append(pb.ContainerDevices(resource_name=resource, device_ids=[one], topology=topology))
    return found
