"""A call of the gRPC health protocol (grpc.health.v1.Health/Check), with the words of Kubernetes' events."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from bamikube.nodeagent import durations
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.probing.words import joined
from bamikube.nodeagent.runtime.port import status_in_go

_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_OPTIONS = [("grpc.primary_user_agent", "kube-probe/1.34"), ("grpc.enable_http_proxy", 0)]


async def check_grpc(action: JSON, address: str, timeout: float) -> str:
    """How the service is not serving, or ""."""
    target = joined(address, int(action["port"]))
    end = asyncio.get_running_loop().time() + timeout  # of the connection and of the answer together
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        try:
            async with asyncio.timeout_at(end):
                await channel.channel_ready()
        except TimeoutError:
            return f'timeout: failed to connect service "{target}" within {durations.go(timeout)}'
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        left = max(0.0, end - asyncio.get_running_loop().time())
        try:
            answer = await call(health_request(str(action.get("service") or "")), timeout=left)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {details}"
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"timeout: health rpc did not complete within {durations.go(timeout)}"
            return f"error: health rpc probe failed: {status_in_go(error.code().name, details)}"
    status = _STATUS.get(answer[1] if answer[:1] == b"\x08" and len(answer) > 1 else 0, "UNKNOWN")
    return "" if status == "SERVING" else f'service unhealthy (responded with "{status}")'


def health_request(service: str) -> bytes:
    """A HealthCheckRequest, as protobuf: the service is field 1."""
    text = service.encode()
    if not text:
        return b""
    length, size = bytearray(), len(text)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x0a" + bytes(length) + text
