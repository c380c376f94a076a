"""A device plugin that offers nothing: its devices are /dev/null under other names. Runs in a test or as a program::

python -m tests.support.device_plugin /var/lib/kubelet/device-plugins example.com/thing a b c
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bamikube.rpc.deviceplugin import deviceplugin_pb2 as pb
from bamikube.rpc.deviceplugin import deviceplugin_pb2_grpc


class SamplePlugin(deviceplugin_pb2_grpc.DevicePluginServicer):  # type: ignore[misc]
    """``devices`` says who is healthy. ``asked`` are the calls that came."""

    def __init__(self, folder: Path, resource: str, ids: list[str], **options: bool) -> None:
        self.folder, self.resource, self.options = folder, resource, options
        self.devices = dict.fromkeys(ids, True)
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.fault = ""
        self._change = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    @property
    def socket(self) -> str:
        return self.resource.replace("/", "-") + ".sock"

    async def start(self) -> None:
        path = self.folder / self.socket
        path.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        deviceplugin_pb2_grpc.add_DevicePluginServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()
        await self.register()

    async def register(self, version: str = "v1beta1", resource: str = "") -> None:
        authority = [("grpc.default_authority", "localhost")]
        async with grpc.aio.insecure_channel(f"unix:{self.folder / 'kubelet.sock'}", authority) as channel:
            stub = deviceplugin_pb2_grpc.RegistrationStub(channel)
            options = pb.DevicePluginOptions(**self.options)
            request = pb.RegisterRequest(
                version=version,
                endpoint=self.socket,
                resource_name=resource or self.resource,
                options=options,
            )
            await stub.Register(request, timeout=10)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    def turn(self, one: str, healthy: bool) -> None:
        self.devices[one] = healthy
        self._change.set()

    # -- the service ---------------------------------------------------------------------------------------------

    async def GetDevicePluginOptions(self, request: Any, context: Any) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(**self.options)

    async def ListAndWatch(self, request: Any, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        while True:
            yield pb.ListAndWatchResponse(
                devices=[
                    pb.Device(
                        ID=one,
                        health="Healthy" if healthy else "Unhealthy",
                        topology=pb.TopologyInfo(nodes=[pb.NUMANode(ID=0)]),
                    )
                    for one, healthy in self.devices.items()
                ]
            )
            await self._change.wait()
            self._change.clear()

    async def GetPreferredAllocation(self, request: Any, context: Any) -> pb.PreferredAllocationResponse:
        wish = request.container_requests[0]
        self.asked.append(("prefer", tuple(wish.available_deviceIDs)))
        last = sorted(wish.available_deviceIDs, reverse=True)[: wish.allocation_size]
        answer = pb.ContainerPreferredAllocationResponse(deviceIDs=last)
        return pb.PreferredAllocationResponse(container_responses=[answer])

    async def Allocate(self, request: Any, context: Any) -> pb.AllocateResponse:
        ids = tuple(request.container_requests[0].devices_ids)
        self.asked.append(("allocate", ids))
        if self.fault:
            await context.abort(grpc.StatusCode.UNKNOWN, self.fault)
        answer = pb.ContainerAllocateResponse(
            envs={"THINGS": ",".join(ids)},
            mounts=[pb.Mount(container_path="/things", host_path="/usr/share", read_only=True)],
            devices=[
                pb.DeviceSpec(container_path=f"/dev/thing-{i}", host_path="/dev/null", permissions="rw")
                for i in ids
            ],
            annotations={"example.com/things": ",".join(ids)},
        )
        return pb.AllocateResponse(container_responses=[answer])

    async def PreStartContainer(self, request: Any, context: Any) -> pb.PreStartContainerResponse:
        self.asked.append(("start", tuple(request.devices_ids)))
        return pb.PreStartContainerResponse()


async def main(folder: Path, resource: str, ids: list[str]) -> None:
    """Offer devices for ever; register again whenever the node agent has started anew (its socket is another one)."""
    seen = None
    plugin = SamplePlugin(folder, resource, ids)
    while True:
        with contextlib.suppress(OSError, grpc.aio.AioRpcError):
            now = (folder / "kubelet.sock").stat().st_ino
            if now != seen or not (folder / plugin.socket).exists():
                await plugin.stop()
                await plugin.start()
                seen = now
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
