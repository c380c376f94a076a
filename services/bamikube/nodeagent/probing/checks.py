"""One check of a container: an HTTP request, a TCP connection, a gRPC health call, a command.

Probes and lifecycle hooks share these. A check answers with a :class:`Result`; it never raises for a failure of what
it checks. Source: "Configure Liveness, Readiness and Startup Probes" (200-399 is success, redirects to another host
count as success, at most ten redirects).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import grpc
import grpc.aio

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Runtime, RuntimeFailure

BODY_LIMIT = 10 * 1024  # bytes of an answer that are read
MESSAGE_LIMIT = 1024  # characters of output that enter an event


@dataclass(frozen=True, slots=True)
class Result:
    ok: bool
    output: str = ""


class Checks(Protocol):
    """How a handler (``httpGet``, ``tcpSocket``, ``grpc``, ``exec``) is carried out."""

    async def run(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result: ...


class NodeChecks:
    """The real checks, from the node to the pod's address."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def run(self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float) -> Result:
        try:
            async with asyncio.timeout(timeout):
                if "exec" in handler:
                    return await self._exec(handler["exec"], container_id, timeout)
                if "httpGet" in handler:
                    return await self._http(handler["httpGet"], spec, address)
                if "tcpSocket" in handler:
                    return await self._tcp(handler["tcpSocket"], spec, address)
                if "grpc" in handler:
                    return await self._grpc(handler["grpc"], address)
                if "sleep" in handler:
                    await asyncio.sleep(float(handler["sleep"].get("seconds", 0)))
                    return Result(True)
        except TimeoutError:
            return Result(
                False,
                f"command timed out after {timeout:g}s"
                if "exec" in handler
                else "context deadline exceeded (timeout)",
            )
        return Result(False, "the handler names no action: use exec, httpGet, tcpSocket or grpc")

    async def _exec(self, action: JSON, container_id: str, timeout: float) -> Result:
        try:
            done = await self._runtime.exec_sync(container_id, list(action.get("command") or ()), timeout)
        except RuntimeFailure as failure:
            return Result(False, failure.message)
        return Result(done.exit_code == 0, (done.stdout + done.stderr).decode("utf-8", "replace"))

    async def _http(self, action: JSON, spec: JSON, address: str) -> Result:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=0, ssl=False)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        host = action.get("host") or address
        port = resolve_port(action.get("port"), spec)
        scheme = str(action.get("scheme") or "HTTP").lower()
        path = action.get("path") or "/"
        bracketed = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{bracketed}:{port}{path if path.startswith('/') else '/' + path}"
        headers = {"User-Agent": "kube-probe/1.34", "Accept": "*/*"}
        headers |= {h["name"]: h.get("value", "") for h in action.get("httpHeaders") or ()}
        try:
            async with self._session.get(url, headers=headers, max_redirects=10) as answer:
                body = (await answer.content.read(BODY_LIMIT)).decode("utf-8", "replace")
                if 200 <= answer.status < 400:
                    return Result(True, body)
                return Result(False, f"HTTP probe failed with statuscode: {answer.status}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Result(False, f'Get "{url}": {error}')

    async def _tcp(self, action: JSON, spec: JSON, address: str) -> Result:
        host, port = action.get("host") or address, resolve_port(action.get("port"), spec)
        try:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return Result(True)
        except OSError as error:
            return Result(False, f"dial tcp {host}:{port}: {error.strerror or error}")

    async def _grpc(self, action: JSON, address: str) -> Result:
        request = health_request(str(action.get("service") or ""))
        target = f"[{address}]:{action['port']}" if ":" in address else f"{address}:{action['port']}"
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                answer = await call(request)
            except grpc.aio.AioRpcError as error:
                return Result(False, f"rpc error: code = {error.code().name} desc = {error.details()}")
        serving = answer[:2] == b"\x08\x01"
        return Result(
            serving, "" if serving else "service unhealthy (responded with another status than SERVING)"
        )


def health_request(service: str) -> bytes:
    """A HealthCheckRequest of the gRPC health protocol, as protobuf: the service is field 1."""
    text = service.encode()
    if not text:
        return b""
    length, size = bytearray(), len(text)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x0a" + bytes(length) + text


def resolve_port(port: object, spec: JSON) -> int:
    """A port by number, or by the name it has in the container. Raises ValueError for an unknown name."""
    if isinstance(port, int):
        return port
    for item in spec.get("ports") or ():
        if item.get("name") == port:
            return int(item["containerPort"])
    try:
        return int(str(port))
    except ValueError:
        raise ValueError(f"couldn't find port: {port!r} in container {spec.get('name')}") from None
