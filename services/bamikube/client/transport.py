"""How a request reaches the API server: over HTTPS, or by a call in the same process.

Both transports speak :mod:`bamikube.kit.http`, so everything above them (client, informers, leader election) is the
same in a cluster and in the simulation.
"""

from __future__ import annotations

import asyncio
import ssl as tls
import tempfile
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import Counter
from yarl import URL

from bamikube.kit.http import Answer, Handler, Request, Response, Stream
from bamikube.kit.lean import aiohttp
from bamikube.kit.metrics import REGISTRY
from bamikube.kit.slots import Slots
from bamikube.kit.tallies import Histograms
from bamikube.pki.kubeconfig import Access

LONG = 1.0  # seconds after which a request is no longer counted among those under way
_REQUESTS = Counter(
    "rest_client_requests",
    "Number of HTTP requests, partitioned by status code, method, and host.",
    ["code", "method", "host"],
    registry=REGISTRY,
)


_SECONDS = Histograms(
    "rest_client_request_duration_seconds",
    "Request latency in seconds. Broken down by verb, and host.",
    ("verb", "host"),
    (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0),
)


@lru_cache(maxsize=1024)
def _requests(code: str, method: str, host: str) -> Any:
    return _REQUESTS.labels(code, method, host)


class Transport(Protocol):
    """Carries one request. Raises OSError when the server cannot be reached, of which TimeoutError is one kind."""

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"", stream: bool = False
    ) -> Answer: ...

    async def close(self) -> None: ...


class InProcessTransport:
    """Calls ``handle`` directly. ``headers`` (credentials) are added to every request."""

    def __init__(self, handle: Handler, headers: Mapping[str, str] | None = None) -> None:
        self._handle = handle
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"", stream: bool = False
    ) -> Answer:
        merged = {name.lower(): value for name, value in headers.items()} | self._headers
        return await self._handle(Request.make(method, target, headers=merged, body=body))

    async def close(self) -> None:
        return None


def ssl_context(access: Access) -> tls.SSLContext | None:
    """The TLS side of an :class:`Access`, None for plain HTTP. Raises ValueError on unusable material."""
    if not access.server.startswith("https://"):
        return None
    try:
        context = tls.create_default_context(cadata=access.ca_pem.decode() if access.ca_pem else None)
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = tls.CERT_NONE
        if access.cert_pem and access.key_pem:
            # OpenSSL reads chains from files only; the file lives no longer than this call.
            with tempfile.TemporaryDirectory() as folder:
                pair = Path(folder) / "client.pem"
                pair.touch(mode=0o600)
                pair.write_bytes(access.cert_pem.rstrip() + b"\n" + access.key_pem)
                context.load_cert_chain(pair)
    except (tls.SSLError, ValueError) as error:
        raise ValueError(f"the credentials for {access.server} cannot be used: {error}") from error
    return context


class HttpTransport:
    """HTTP/1.1 over a pool of connections. No client-side rate limit.

    ``at_a_time``: how many requests are under way together, but for watches and those that take longer than a second: a crowd
    of requests over few connections is as fast as over many, which cost handshakes and memory. 0: all of them.
    """

    def __init__(
        self, access: Access, *, user_agent: str = "bamikube", timeout: float = 60.0, at_a_time: int = 0
    ) -> None:
        self._access = access
        self._base = access.server.rstrip("/")
        self._host = self._base.partition("://")[2]
        self._timeout = timeout
        self._headers = {"User-Agent": user_agent}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._ssl = ssl_context(access)
        self._session: aiohttp.ClientSession | None = None
        self._slots = Slots(at_a_time, LONG) if at_a_time else None
        self._retired: list[aiohttp.ClientSession] = []  # of certificates shown before

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl or False, limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                auto_decompress=True,
                read_bufsize=2**20,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"", stream: bool = False
    ) -> Answer:
        if stream or self._slots is None:
            return await self._send(method, target, headers, body, stream)
        async with self._slots.one():
            return await self._send(method, target, headers, body, stream)

    async def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, stream: bool
    ) -> Answer:
        session = self._open()
        timeout = aiohttp.ClientTimeout(
            total=None if stream else self._timeout,
            sock_connect=10,
            sock_read=None if stream else self._timeout,
        )
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            answer = await session.request(
                method,
                URL(self._base + target, encoded=True),
                headers=dict(headers),
                data=body or None,
                timeout=timeout,
            )
        except aiohttp.ClientError as error:
            _requests("<error>", method, self._host).inc()
            raise ConnectionError(f"{self._base}: {error}") from error
        _requests(str(answer.status), method, self._host).inc()
        _SECONDS.of(method, self._host).observe(clock() - begun)
        kind = answer.content_type or "application/json"
        kept = {name.lower(): value for name, value in answer.headers.items()}
        if stream and answer.status < 300:
            return Stream(answer.status, _chunks(answer), kept, kind)
        try:
            return Response(answer.status, await answer.read(), kept, kind)
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{self._base}: {error}") from error
        finally:
            answer.release()

    def show(self, pair: Path) -> None:
        """Show another certificate from now on: that of a PEM file which holds its key, too. What is under way goes on as it is.

        Raises OSError and SSLError, and nothing has changed.
        """
        if self._ssl is None:
            return
        tls.SSLContext(tls.PROTOCOL_TLS_CLIENT).load_cert_chain(pair)  # half a pair would spoil ours
        self._ssl.load_cert_chain(pair)
        if self._session is not None:
            self._retired.append(self._session)
            self._session = None

    async def close(self) -> None:
        for session in (*self._retired, *([self._session] if self._session else ())):
            await session.close()
        self._retired, self._session = [], None


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, asyncio.IncompleteReadError) as error:
        raise ConnectionError(f"the stream from {answer.url.host} broke: {error}") from error
    finally:
        answer.close()
