"""One check of a container: an HTTP request, a TCP connection, a gRPC health call, a command.

Probes and lifecycle hooks share these. A check answers with a :class:`Result`; it never raises for a failure of what
it checks. Source: "Configure Liveness, Readiness and Startup Probes" (200-399 is success, a redirect to another host
is a success with a warning, at most ten redirects).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

from bamikube.nodeagent import durations
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.probing.grpc_check import check_grpc
from bamikube.nodeagent.probing.http_check import HttpCheck
from bamikube.nodeagent.probing.words import dialled
from bamikube.nodeagent.runtime.port import Runtime, RuntimeFailure

LATE = 5.0  # seconds beyond its time limit that a command may take to begin, and its output to end
OUTPUT_LIMIT = 10 * 1024  # characters of a command's output that are kept


@dataclass(frozen=True, slots=True)
class Result:
    """``unknown`` says nothing about the container: the check itself could not be made."""

    kind: Literal["success", "warning", "failure", "unknown"]
    output: str = ""

    @property
    def ok(self) -> bool:
        return self.kind in ("success", "warning")


class Checks(Protocol):
    """How a handler (``httpGet``, ``tcpSocket``, ``grpc``, ``exec``, ``sleep``) is carried out."""

    async def probe(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result: ...

    async def hook(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        """As ``probe``, but an HTTP request has done its work with any answer."""


class NodeChecks:
    """The real checks, from the node to the pod's address."""

    def __init__(self, runtime: Runtime, late: float = LATE) -> None:
        self._runtime, self._late = runtime, late
        self._http = HttpCheck()

    async def close(self) -> None:
        await self._http.close()

    async def probe(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        try:
            if "exec" in handler:
                return await self._exec(handler["exec"], container_id, timeout)
            if "httpGet" in handler:
                action = handler["httpGet"]
                port = resolve_port(action.get("port"), spec)
                return Result(*await self._http.probe(action, port, address, timeout))
            if "tcpSocket" in handler:
                return await self._tcp(handler["tcpSocket"], spec, address, timeout)
            if "grpc" in handler:
                fault = await check_grpc(handler["grpc"], address, timeout)
                return Result("failure", fault) if fault else Result("success")
        except ValueError as error:
            return Result("unknown", str(error))
        return Result("unknown", "missing probe handler")

    async def hook(
        self, handler: JSON, spec: JSON, container_id: str, address: str, timeout: float
    ) -> Result:
        try:
            if "exec" in handler:
                return await self._command(handler["exec"], container_id, timeout)
            if "httpGet" in handler:
                action = handler["httpGet"]
                port = resolve_port(action.get("port") or 80, spec)
                fault = await self._http.call(action, port, address, timeout)
                return Result("failure", fault) if fault else Result("success")
            if "tcpSocket" in handler:
                return await self._tcp(handler["tcpSocket"], spec, address, timeout)
            if "sleep" in handler:
                await asyncio.sleep(float(handler["sleep"].get("seconds", 0)))
                return Result("success")
        except ValueError as error:
            return Result("failure", str(error))
        return Result("failure", f"invalid handler: {handler}")

    async def _exec(self, action: JSON, container_id: str, timeout: float) -> Result:
        # The runtime counts from the command's first moment; that a busy node takes a while to begin it is nobody's fault.
        # It also waits for whoever holds the command's output after its end, which may be for ever.
        command = list(action.get("command") or ())
        try:
            async with asyncio.timeout(timeout + self._late):
                done = await self._runtime.exec_sync(container_id, command, timeout)
        except TimeoutError:
            return Result("failure", _out_of_time(command, timeout))
        except RuntimeFailure as failure:
            if failure.code == "DEADLINE_EXCEEDED":
                return Result("failure", _out_of_time(command, timeout))
            return Result("unknown", failure.in_go())
        text = (done.stdout + done.stderr).decode("utf-8", "replace")[:OUTPUT_LIMIT]
        return Result("success" if done.exit_code == 0 else "failure", text)

    async def _command(self, action: JSON, container_id: str, timeout: float) -> Result:
        command = list(action.get("command") or ())
        try:
            done = await self._runtime.exec_sync(container_id, command, timeout)
        except RuntimeFailure as failure:
            return Result("failure", f'{failure.in_go()}, message: ""')
        if done.exit_code == 0:
            return Result("success")
        error = done.stderr.decode("utf-8", "replace")[:OUTPUT_LIMIT]
        text = (done.stdout + done.stderr).decode("utf-8", "replace")[:OUTPUT_LIMIT]
        return Result(
            "failure",
            f"command '{' '.join(command)}' exited with {done.exit_code}: {error}, message: \"{text}\"",
        )

    async def _tcp(self, action: JSON, spec: JSON, address: str, timeout: float) -> Result:
        host, port = action.get("host") or address, resolve_port(action.get("port"), spec)
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return Result("success")
        except OSError as error:  # a timeout is one
            return Result("failure", dialled(host, port, error))


def _out_of_time(command: list[str], timeout: float) -> str:
    return f'command timed out: "{" ".join(command)}" timed out after {durations.go(timeout)}'


def resolve_port(port: object, spec: JSON) -> int:
    """A port by number, or by the name it has in the container. Raises ValueError for an unknown name."""
    number = port if isinstance(port, int) else None
    for item in spec.get("ports") or ():
        if number is None and item.get("name") == port:
            number = int(item["containerPort"])
    if number is None:
        text = str(port)
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
        number = int(text)
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number
