"""HTTP requests to containers, as probes and as lifecycle hooks make them.

A probe follows redirects on the host it asks only (ten at most); one that leads elsewhere ends it, with success and a
warning. A hook does not care what it is answered. Certificates are not verified: a container's is its own affair.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from multidict import CIMultiDict
from yarl import URL

from bamikube.kit.lean import aiohttp
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.probing.words import dialled, joined, malformed, no_tls, reason

BODY_LIMIT = 10 * 1024  # bytes of an answer that are read
REDIRECTS = 10
_FOLLOWED = (301, 302, 303, 307, 308)

Verdict = tuple[Literal["success", "warning", "failure"], str]


class HttpCheck:
    """One session for all requests; every request has a connection of its own, as the kubelet's."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=0, ssl=False)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def probe(self, action: JSON, port: int, address: str, timeout: float) -> Verdict:
        """Ask, and judge the answer."""
        first = address_of(action, port, address)
        headers = sent_headers(action, "kube-probe/1.34")
        url = first
        try:
            async with asyncio.timeout(timeout):
                for _ in range(REDIRECTS):
                    status, location, body = await self._get(url, headers)
                    if status not in _FOLLOWED or not location:
                        return judged(status, body)
                    url = url.join(URL(location))
                    if url.host != first.host:
                        return judged(status, body)
                    if URL(location).absolute:
                        headers.pop("Host", None)
        except TimeoutError:
            text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return "failure", f'Get "{url}": {text}'
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return "failure", f'Get "{url}": {_fault(url, error)}'
        return "failure", f'Get "{url}": stopped after 10 redirects'

    async def call(self, action: JSON, port: int, address: str, timeout: float) -> str:
        """Ask; why no answer came, or ""."""
        url = address_of(action, port, address)
        headers = sent_headers(action, "kube-lifecycle/1.34")
        try:
            async with asyncio.timeout(timeout):
                try:
                    await self._get(url, headers)
                except aiohttp.ClientSSLError:
                    # A hook that says HTTPS to a server without TLS has always been asked over HTTP as well.
                    await self._get(url.with_scheme("http"), headers)
        except TimeoutError:
            return f'Get "{url}": context deadline exceeded'
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f'Get "{url}": {_fault(url, error)}'
        return ""

    async def _get(self, url: URL, headers: CIMultiDict[str]) -> tuple[int, str, str]:
        """Status, Location and the first part of the body."""
        asked = self._open().get(
            url,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        async with asked as answer:
            body = b""
            while len(body) < BODY_LIMIT and (part := await answer.content.read(BODY_LIMIT - len(body))):
                body += part
            return answer.status, answer.headers.get("Location", ""), body.decode("utf-8", "replace")


def judged(status: int, body: str) -> Verdict:
    if 200 <= status < 300:
        return "success", body
    if 300 <= status < 400:
        return "warning", f"Probe terminated redirects, Response body: {body}"
    return "failure", f"HTTP probe failed with statuscode: {status}"


def address_of(action: JSON, port: int, address: str) -> URL:
    """Whom an httpGet asks, and for what; the path may hold a query."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = str(action.get("path") or "/")
    if not path.startswith("/"):
        path = "/" + path
    escaped = "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in path)
    return URL(f"{scheme}://{joined(action.get('host') or address, port)}{escaped}", encoded=True)


def sent_headers(action: JSON, agent: str) -> CIMultiDict[str]:
    """The headers of a request. A name may stand several times; an empty Accept or User-Agent means none at all."""
    headers: CIMultiDict[str] = CIMultiDict()
    for item in action.get("httpHeaders") or ():
        headers.add(str(item["name"]), str(item.get("value") or ""))
    for name, default in (("User-Agent", agent), ("Accept", "*/*")):
        if name not in headers:
            headers[name] = default
        elif not headers[name]:
            headers.popall(name)
    return headers


def _fault(url: URL, error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientSSLError):
        return no_tls(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionResetError) and not error.os_error.errno:
            return "EOF"  # closed in the middle of the TLS handshake
        return dialled(url.host or "", url.port or 0, error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, aiohttp.ClientResponseError):
        return malformed(error.message)
    if isinstance(error, aiohttp.NonHttpUrlClientError):
        return f'unsupported protocol scheme "{url.scheme}"'
    return reason(error)
