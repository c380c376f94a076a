"""``/healthz``, ``/livez``, ``/readyz``, ``/metrics`` and ``/metrics/slis`` of a service, over plain HTTP on loopback.

The answers are those of Kubernetes' components: ``ok``, 500 with the checks of the service that fail, or 503 with what is
missing. A service that knows more about itself than that its event loop turns has ``checks``, by name. The server is forty lines over
asyncio's streams so that a small service need not import a web framework for four paths.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from bamikube.kit import healthfigures, metrics


class HasReady(Protocol):
    name: str
    ready: asyncio.Event


class HealthServer:
    """Serves the health of one service. ``livez`` says the event loop turns; ``readyz`` that the work is done."""

    def __init__(self, service: HasReady) -> None:
        self._service = service
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._serve, host, port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        path = path.partition("?")[0].rstrip("/") or "/"
        if path in ("/healthz", "/livez", "/ping"):
            return self._health(path[1:] if path != "/ping" else "healthz", self._checks())
        if path.startswith("/healthz/") and (check := self._checks().get(path.removeprefix("/healthz/"))):
            return self._health("healthz", {path.removeprefix("/healthz/"): check})
        if path == "/readyz":
            healthfigures.checked("ready", "readyz", self._service.ready.is_set())
            if self._service.ready.is_set():
                return 200, "text/plain; charset=utf-8", b"ok"
            return 503, "text/plain; charset=utf-8", f"{self._service.name} is not ready yet\n".encode()
        if path == "/metrics":
            return 200, metrics.CONTENT_TYPE, metrics.render()
        if path == healthfigures.PATH:
            return 200, metrics.CONTENT_TYPE, healthfigures.render()
        return 404, "text/plain; charset=utf-8", b"404 page not found\n"

    def _checks(self) -> Mapping[str, Callable[[], bool]]:
        return {"ping": lambda: True} | getattr(self._service, "checks", {})

    def _health(self, kind: str, checks: Mapping[str, Callable[[], bool]]) -> tuple[int, str, bytes]:
        found = {name: check() for name, check in checks.items()}
        for name, well in found.items():
            healthfigures.checked(name, kind, well)
        if all(found.values()):
            return 200, "text/plain; charset=utf-8", b"ok"
        lines = [
            f"[+]{name} ok" if well else f"[-]{name} failed: reason withheld" for name, well in found.items()
        ]
        text = "\n".join([*lines, f"{kind} check failed", ""])
        return 500, "text/plain; charset=utf-8", text.encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
            parts = head.split(b" ", 2)
            status, kind, body = (
                self.answer(parts[1].decode("latin-1")) if len(parts) == 3 else (400, "text/plain", b"")
            )
            reason = {
                200: "OK",
                400: "Bad Request",
                404: "Not Found",
                500: "Internal Server Error",
                503: "Service Unavailable",
            }[status]
            writer.write(
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return
        finally:
            writer.close()
