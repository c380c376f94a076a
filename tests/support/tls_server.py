"""An HTTPS server of the test's own, as a webhook's or an extension API server's author would write one: aiohttp over
TLS with a certificate from an authority of its own. It runs in a thread, so that kubectl can be waited for meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

from aiohttp import web

from bamikube.kit.world import World
from bamikube.pki.authority import Authority, Request

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TlsServer:
    """``handler`` answers every request. ``sans`` are the names its certificate has. ``client_ca`` is the file of an
    authority whose certificates clients are asked for (not forced to show)."""

    def __init__(
        self,
        directory: Path,
        handler: Handler,
        *,
        sans: tuple[str, ...] = ("127.0.0.1", "localhost"),
        client_ca: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        authority = Authority.create("webhook-ca", World())
        issued = authority.issue(Request("webhook", sans=sans, server=True))
        pair = directory / "server.pem"
        pair.write_bytes(issued.certificate_pem + issued.key_pem)
        self.ca_pem = authority.certificate_pem
        self._context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca) if client_ca else None
        )
        if client_ca:
            self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.load_cert_chain(pair)
        self._handler = handler
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.ServerRunner | None = None
        self.port = 0
        self.connections = 0

    @property
    def ca_bundle(self) -> str:
        """As it stands in a ``caBundle`` field."""
        return base64.b64encode(self.ca_pem).decode()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> TlsServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    async def _start(self) -> None:
        seen: set[int] = set()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if id(request.transport) not in seen:
                seen.add(id(request.transport))
                self.connections += 1
            return await self._handler(request)  # type: ignore[arg-type]

        self._runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # handlers that were still at work
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
