"""Deadlines of CRI calls, as the runtime sees them: a pull has none, for a large image over a slow line takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from bamikube.nodeagent.runtime.cri import SHORT, CriRuntime
from bamikube.rpc.cri import cri_pb2 as pb
from bamikube.rpc.cri import cri_pb2_grpc


class Runtime(cri_pb2_grpc.ImageServiceServicer, cri_pb2_grpc.RuntimeServiceServicer):
    """Notes how much time each call leaves it."""

    def __init__(self) -> None:
        self.left: dict[str, float | None] = {}

    async def PullImage(self, request: Any, context: Any) -> Any:
        self.left["pull"] = context.time_remaining()
        return pb.PullImageResponse(image_ref="i")

    async def StopContainer(self, request: Any, context: Any) -> Any:
        self.left["stop"] = context.time_remaining()
        return pb.StopContainerResponse()

    async def RemoveImage(self, request: Any, context: Any) -> Any:
        self.left["remove"] = context.time_remaining()
        return pb.RemoveImageResponse()


async def test_a_pull_may_take_its_time_and_a_stop_its_grace(tmp_path: Path) -> None:
    server, heard = grpc.aio.server(), Runtime()
    cri_pb2_grpc.add_ImageServiceServicer_to_server(heard, server)
    cri_pb2_grpc.add_RuntimeServiceServicer_to_server(heard, server)
    server.add_insecure_port(f"unix://{tmp_path}/cri.sock")
    await server.start()
    runtime = CriRuntime(f"unix://{tmp_path}/cri.sock")
    try:
        assert await runtime.pull_image("x") == "i"
        await runtime.stop_container("c", 500.0)
        await runtime.remove_image("x")
    finally:
        await runtime.close()
        await server.stop(0)
    left = heard.left
    # gRPC writes "no deadline" as one that is centuries away.
    assert left["pull"] is None or left["pull"] > 1e9
    assert left["stop"] is not None and SHORT < left["stop"] < 505.0 + SHORT
    assert left["remove"] is not None and SHORT - 60 < left["remove"] < SHORT + 5
