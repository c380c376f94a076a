"""Calls over real sockets: HTTP over TLS, connections kept and used again.

One session serves all destinations; aiohttp keeps its connections apart by address, TLS name and TLS context. A
context is made once for each trust (CA bundle, client certificate or none) and kept.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl as tls
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache

from multidict import CIMultiDict
from yarl import URL

from bamikube.apiserver.outbound.destination import Destination
from bamikube.apiserver.outbound.port import CallError, Headers, Incoming, Reply
from bamikube.kit.http import RawConnection
from bamikube.kit.lean import aiohttp
from bamikube.kit.tunnel import dial

CONNECT = 10.0  # seconds until a connection must stand
KEPT = 60.0  # seconds an idle connection is kept
LARGEST = 16 * 1024 * 1024  # bytes of a complete answer
_CHUNK = 256 * 1024


class HttpCaller:
    """``certificate`` and ``key`` are files: who the API server is to destinations that ask (``identify``)."""

    def __init__(self, certificate: str = "", key: str = "") -> None:
        self._certificate, self._key = certificate, key
        self._session: aiohttp.ClientSession | None = None
        self._opened: set[_Open] = set()
        self._context = lru_cache(maxsize=256)(self._new_context)

    def _new_context(self, trust: bytes, verify: bool, identify: bool, pair: str = "") -> tls.SSLContext:
        """Raises CallError for a bundle that holds no certificate, or a pair that is none."""
        try:
            context = tls.create_default_context(cadata=trust.decode() if trust else None)
        except (tls.SSLError, ValueError):
            raise CallError("unable to load root certificates: unable to parse bytes as PEM block") from None
        # As Go's client does: a bundle may hold the server's own certificate or an intermediate one, and certificates
        # need not have every extension that RFC 5280 wants of them.
        context.verify_flags |= tls.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~tls.VERIFY_X509_STRICT
        if not verify:
            context.check_hostname, context.verify_mode = False, tls.CERT_NONE
        if identify and self._certificate:
            context.load_cert_chain(self._certificate, self._key or None)
        if pair:
            try:
                context.load_cert_chain(pair)
            except (tls.SSLError, OSError) as problem:
                raise CallError(f"tls: the client certificate cannot be used: {problem}") from None
        return context

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _request(
        self, to: Destination, method: str, target: str, headers: Headers, body: bytes
    ) -> aiohttp.ClientResponse:
        context = self._context(to.trust, to.verify, to.identify, to.pair)
        url = URL(f"https://{_bracketed(to.host)}:{to.port}{target}", encoded=True)
        sent = CIMultiDict(headers)
        sent.setdefault("Host", to.authority)
        sent.setdefault("Accept-Encoding", "identity")
        for last in (False, True):
            try:
                return await self._open_session().request(
                    method,
                    url,
                    headers=sent,
                    data=body or None,
                    ssl=context,
                    server_hostname=to.name,
                    allow_redirects=False,
                )
            except (aiohttp.ServerDisconnectedError, ConnectionResetError) as problem:
                if last:  # the first one may have been an idle connection that its server had just closed
                    raise CallError(explained(problem, to)) from problem
            except (aiohttp.ClientError, OSError) as problem:
                raise CallError(explained(problem, to)) from problem
        raise AssertionError("the last attempt returns or raises")

    async def call(
        self,
        to: Destination,
        method: str,
        target: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        timeout: float,
    ) -> Reply:
        try:
            async with asyncio.timeout(timeout):
                response = await self._request(to, method, target, headers, body)
                try:
                    parts, size = [], 0
                    async for part in response.content.iter_chunked(_CHUNK):
                        size += len(part)
                        if size > LARGEST:
                            raise CallError(f"the answer is larger than {LARGEST} bytes")
                        parts.append(part)
                except (aiohttp.ClientError, OSError) as problem:
                    raise CallError(explained(problem, to)) from problem
                except BaseException:
                    response.close()
                    raise
        except TimeoutError:
            raise CallError("context deadline exceeded") from None
        return Reply(response.status, _lowered(response), b"".join(parts))

    async def open(
        self, to: Destination, method: str, target: str, *, headers: Headers = (), body: bytes = b""
    ) -> Incoming:
        incoming = _Open(await self._request(to, method, target, headers, body), self._opened.discard)
        self._opened.add(incoming)
        return incoming

    async def raw(self, to: Destination) -> RawConnection:
        context = self._context(to.trust, to.verify, to.identify, to.pair)
        try:
            return await dial(to.host, to.port, ssl=context, server_hostname=to.name, timeout=CONNECT)
        except (OSError, TimeoutError) as problem:
            raise CallError(explained(problem, to)) from problem

    async def close(self) -> None:
        for incoming in list(self._opened):
            incoming.end()
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Open:
    """An answer on its way."""

    def __init__(self, response: aiohttp.ClientResponse, done: Callable[[_Open], None]) -> None:
        self._response = response
        self._done = done
        self._ended = False
        self.status = response.status
        self.headers: Mapping[str, str] = _lowered(response)

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as problem:
            if not self._ended:
                raise ConnectionResetError(str(problem)) from problem
        finally:
            await self.close()

    def end(self) -> None:
        """Whoever reads it finds its end now, as the readers of our own watches do when the server goes."""
        self._ended = True
        self._response.content.feed_eof()

    async def close(self) -> None:
        self._done(self)
        self._response.close()


def _lowered(response: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        name = name.lower()
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def explained(problem: BaseException, to: Destination) -> str:
    """What went wrong, as Go's client would say it: people search for these words."""
    there = f"{_bracketed(to.host)}:{to.port}"
    if isinstance(problem, TimeoutError | aiohttp.ServerTimeoutError):
        return f"dial tcp {there}: i/o timeout"
    inner: BaseException | None = getattr(problem, "certificate_error", None)
    if isinstance(inner or problem, tls.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {_distrust(inner or problem, to)}"
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {to.host}: no such host"
    if isinstance(problem, aiohttp.ClientConnectorSSLError | tls.SSLError):
        return f"remote error: tls: {getattr(problem, 'reason', '') or problem}"
    if isinstance(problem, aiohttp.ServerDisconnectedError):
        return "EOF"
    number = getattr(problem, "errno", None) or getattr(getattr(problem, "os_error", None), "errno", None)
    if isinstance(problem, aiohttp.ClientConnectorError | ConnectionRefusedError) and number:
        words = os.strerror(number).lower()
        if number == errno.EHOSTUNREACH:
            words = "no route to host"
        return f"dial tcp {there}: connect: {words}"
    return str(problem) or type(problem).__name__


def _distrust(problem: BaseException, to: Destination) -> str:
    text = str(getattr(problem, "verify_message", "") or problem)
    if "issuer" in text or "self-signed" in text or "self signed" in text:
        return "x509: certificate signed by unknown authority"
    if "Hostname mismatch" in text or "IP address mismatch" in text:
        return f"x509: certificate is not valid for {to.name}"
    if "expired" in text or "not yet valid" in text:
        return "x509: certificate has expired or is not yet valid"
    return f"x509: {text}"
