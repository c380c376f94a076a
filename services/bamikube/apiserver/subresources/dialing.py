"""Reaching node agents: where they listen, whom we are to them, and one HTTP request.

A node agent is dialled at the node's InternalIP and the port it reports in its status, over TLS with the API
server's kubelet client certificate. Its own certificate is verified when a CA for it is given.
"""

from __future__ import annotations

import ssl as tls
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from yarl import URL

from bamikube.api import errors
from bamikube.kit.lean import aiohttp
from bamikube.kit.tunnel import StreamConnection, answer_head, dial, request_head

KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node agent listens."""

    node: str
    host: str
    port: int


def place_of(
    node: dict[str, Any], preferred: tuple[str, ...] = ("InternalIP", "Hostname", "ExternalIP")
) -> Place:
    """Raises ApiError 400 for a node that has not reported an address."""
    name = node["metadata"]["name"]
    status = node.get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
    for kind in preferred:
        for address in status.get("addresses") or []:
            if address.get("type") == kind and address.get("address"):
                return Place(name, str(address["address"]), int(port))
    raise errors.bad_request(
        f"no preferred addresses found for node {name}: its node agent has not reported one yet"
    )


class NodeDialer:
    """``ssl`` carries the client certificate; None speaks plain HTTP (tests). ``lax`` is the same, but believes any node."""

    def __init__(self, ssl: tls.SSLContext | None, lax: tls.SSLContext | None = None) -> None:
        self._ssl, self._lax = ssl, lax or ssl

    @classmethod
    def from_files(cls, certificate: str, key: str, authority: str = "") -> NodeDialer:
        """``--kubelet-client-certificate``, ``--kubelet-client-key``, ``--kubelet-certificate-authority``."""
        strict, lax = (_context(certificate, key, trusted) for trusted in (authority, ""))
        return cls(strict, lax)

    async def raw(self, place: Place) -> StreamConnection:
        """A connection to the node agent. Raises ApiError 502-like 500 naming node and address."""
        try:
            return await dial(place.host, place.port, ssl=self._ssl, server_hostname=place.host)
        except (OSError, TimeoutError) as problem:
            raise unreachable(place, problem) from problem

    async def spdy(self, place: Place, target: str, protocols: Sequence[str]) -> tuple[StreamConnection, str]:
        """A connection upgraded to SPDY/3.1, and which of ``protocols`` the other side chose ("" for none).

        Raises ApiError: what the node agent said when it refused, 500 when it cannot be reached.
        """
        headers = [
            ("Host", f"{_host(place.host)}:{place.port}"),
            ("Connection", "Upgrade"),
            ("Upgrade", "SPDY/3.1"),
            *(("X-Stream-Protocol-Version", one) for one in protocols),
        ]
        connection = await self.raw(place)
        try:
            await connection.write(request_head("POST", target, headers))
            status, answered = await answer_head(connection)
            if status != 101:
                raise refused_by_node(status, await _body(connection, answered))
            if "spdy/3.1" not in answered.get("upgrade", "").lower():
                raise ConnectionResetError("it upgraded the connection to something else than SPDY/3.1")
            return connection, answered.get("x-stream-protocol-version", "")
        except OSError as problem:
            connection.close()
            raise unreachable(place, problem) from problem
        except BaseException:
            connection.close()
            raise

    async def open(
        self,
        place: Place,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        verify: bool = True,
    ) -> Exchange:
        """Send one request and wait for the head of the answer. ``target`` is percent-encoded.

        ``verify``: only to a node whose certificate is trusted. Raises ApiError 500 when the node cannot be reached.
        """
        scheme = "http" if self._ssl is None else "https"
        return await fetch(
            method,
            f"{scheme}://{_host(place.host)}:{place.port}{target}",
            headers or {},
            body,
            self._ssl if verify else self._lax,
            place,
        )


def untrusted(error: errors.ApiError) -> bool:
    """Whether a node was not reached because its certificate is not trusted."""
    return isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError)


def _context(certificate: str, key: str, authority: str) -> tls.SSLContext:
    context = tls.create_default_context(tls.Purpose.SERVER_AUTH, cafile=authority or None)
    context.check_hostname = bool(authority)
    if not authority:
        context.verify_mode = tls.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


class Exchange:
    """The answer to a request on its way: status and headers now, chunks as they come. Must be closed or read."""

    def __init__(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse) -> None:
        self._session = session
        self._response = response
        self.status = response.status
        self.headers = dict(response.headers)

    async def text(self, limit: int = 10_000) -> str:
        """The beginning of the body, at most ``limit`` bytes; then the exchange is closed."""
        try:
            return (await self._response.content.read(limit)).decode(errors="replace").strip()
        finally:
            await self.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body; closes the exchange at its end or when nobody listens any more."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as problem:
            raise ConnectionResetError(str(problem)) from problem
        finally:
            await self.close()

    async def close(self) -> None:
        self._response.close()
        await self._session.close()


async def fetch(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    ssl: tls.SSLContext | None,
    place: Place,
) -> Exchange:
    """One request over a connection of its own. Raises ApiError 500 when ``place`` cannot be reached."""
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    try:
        response = await session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            ssl=ssl if ssl is not None else False,
            allow_redirects=False,
        )
    except (aiohttp.ClientError, OSError, TimeoutError) as problem:
        await session.close()
        raise unreachable(place, problem) from problem
    except BaseException:
        await session.close()
        raise
    return Exchange(session, response)


async def _body(connection: StreamConnection, headers: Mapping[str, str], limit: int = 10_000) -> str:
    """The body of a refusal, at most ``limit`` bytes of it."""
    length = headers.get("content-length", "")
    wanted = min(int(length), limit) if length.isdigit() else limit
    data = b""
    while len(data) < wanted and (more := await connection.read()):
        data += more
    return data[:wanted].decode(errors="replace").strip()


def refused_by_node(status: int, text: str) -> errors.ApiError:
    """A server's refusal as an API error: its ``Status`` object, or its status and its words.

    What is no refusal, but not what was asked for either (a redirection, say), is an error of ours: 500.
    """
    try:
        said = orjson.loads(text)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("kind") == "Status":
        return errors.ApiError.of(said)
    if status == 404:
        text = text or "the server could not find the requested resource"
    text = text or f"the node agent answered {status}"
    if status < 400 or status == 500:
        return errors.internal(text)
    return errors.ApiError(status, errors.reason_of(status), text)


def unreachable(place: Place, problem: BaseException) -> errors.ApiError:
    """What the client is told when nobody answers."""
    if isinstance(problem, aiohttp.ClientConnectorError):
        problem = problem.os_error  # without the innards of the client
    what = str(problem) or type(problem).__name__
    return errors.internal(f"error dialing backend: {place.node} at {place.host}:{place.port}: {what}")


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
