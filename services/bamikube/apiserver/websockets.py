"""Websockets as a server sees them: what a client asks for, the answer that opens one, and bytes carried in one.

The subprotocols that concern us:

======================================  ==================================================================
``v5.channel.k8s.io``                   exec and attach, with channels that can be closed: see ``subresources/translator``
``v4.channel.k8s.io`` and older         exec, attach and port-forward as the container runtime speaks them
``SPDY/3.1+portforward.k8s.io``         port-forward: a SPDY connection carried in binary messages
``binary.k8s.io``, none                 logs as binary messages; ``base64.binary.k8s.io``: as text
any                                     a watch, each event a message
``base64url.bearer.authorization...``   no protocol but a bearer token, from browsers, which cannot send headers
======================================  ==================================================================

Sources: KEP-4006 (from SPDY to websockets), RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable

from bamikube.api import errors
from bamikube.apiserver.authn.authenticator import TOKEN_PROTOCOL
from bamikube.kit import websocket
from bamikube.kit.http import RawConnection, Request, Stream, Tunnel
from bamikube.kit.tunnel import LINGER
from bamikube.kit.websocket import BINARY, CLOSE, PING, TEXT

PLAIN = ("binary.k8s.io", "base64.binary.k8s.io")


def asks_for_websocket(request: Request) -> bool:
    """Whether the request wants to become a websocket."""
    headers = request.headers
    return (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("connection", "").lower()
    )


def offered(request: Request) -> list[str]:
    """The subprotocols the client offers, in its order."""
    value = request.headers.get("sec-websocket-protocol", "")
    found = [one.strip() for one in value.split(",")]
    return [one for one in found if one and not one.startswith(TOKEN_PROTOCOL)]


def check(request: Request) -> None:
    """Raises ApiError 400 for a websocket request that no websocket can be made of."""
    if request.headers.get("sec-websocket-version", "").strip() != "13":
        raise errors.bad_request("websocket: Sec-WebSocket-Version must be 13")
    try:
        key = base64.b64decode(request.headers.get("sec-websocket-key", "").strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise errors.bad_request("websocket: Sec-WebSocket-Key must be 16 bytes in base64")


def switching(request: Request, protocol: str) -> bytes:
    """The head of the answer that opens a websocket; ``protocol`` "" agrees on none."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {websocket.accept_of(request.headers.get('sec-websocket-key', ''))}",
    ]
    if protocol:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Carried:
    """The bytes inside the messages of a websocket, as a raw connection. Message boundaries mean nothing.

    It is half-closable: our close frame says that nothing more comes from us, and the client's is its own end.
    """

    half_closable = True

    def __init__(self, client: RawConnection, kind: int = BINARY) -> None:
        self._client = client
        self._kind = kind
        self._parser = websocket.Parser(masks=True)
        self._closed = False  # by us
        self._ended = False  # by the client

    async def read(self) -> bytes:
        while not self._ended and (data := await self._client.read()):
            try:
                pieces = self._parser.feed(data)
            except websocket.ProtocolError as error:
                self._ended = True
                await self._close(websocket.PROTOCOL_ERROR, str(error))
                break
            taken = []
            for piece in pieces:
                if piece.opcode == CLOSE:
                    self._ended = True
                    await self._close(websocket.NORMAL)
                    break
                if piece.opcode == PING:
                    await self._client.write(websocket.frame(websocket.PONG, piece.data))
                elif piece.opcode in (BINARY, TEXT):
                    taken.append(piece.data)
            if joined := b"".join(taken):
                return joined
        return b""

    async def write(self, data: bytes) -> None:
        if not self._closed:
            await self._client.write(websocket.frame(self._kind, data))

    async def write_eof(self) -> None:
        await self._close(websocket.NORMAL)

    async def _close(self, code: int, reason: str = "") -> None:
        if not self._closed:
            self._closed = True
            await self._client.write(websocket.close_frame(code, reason))

    def close(self) -> None:
        self._client.close()


def plain_protocol(request: Request) -> str:
    """The protocol in which chunks are sent as messages, "" when none is offered. Raises ApiError 400."""
    check(request)
    protocols = offered(request)
    found = next((one for one in protocols if one in PLAIN), "")
    if protocols and not found:
        raise errors.bad_request(
            f"websocket: none of {', '.join(protocols)} is spoken here, only {', '.join(PLAIN)}"
        )
    return found


def log_messages(request: Request, chunks: AsyncIterator[bytes]) -> Tunnel:
    """A log as messages of a websocket."""
    protocol = plain_protocol(request)
    if protocol == "base64.binary.k8s.io":
        return _messages(request, protocol, chunks, TEXT, lambda chunk: [base64.b64encode(chunk)])
    return _messages(request, protocol, chunks, BINARY, lambda chunk: [chunk])


def event_messages(request: Request, watch: Stream) -> Tunnel:
    """A watch as messages of a websocket, one for each event: JSON as text, protobuf in its envelope."""
    protocol = next(iter(offered(request)), "")
    if "json" in watch.content_type:
        return _messages(request, protocol, watch.chunks, TEXT, lambda chunk: chunk.splitlines(keepends=True))
    return _messages(request, protocol, watch.chunks, BINARY, _delimited)


def _delimited(chunk: bytes) -> list[bytes]:
    """The events of a chunk, each of which follows its length in four bytes."""
    found, at = [], 0
    while at < len(chunk):
        size = int.from_bytes(chunk[at : at + 4], "big")
        found.append(chunk[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _messages(
    request: Request,
    protocol: str,
    chunks: AsyncIterator[bytes],
    kind: int,
    divide: Callable[[bytes], list[bytes]],
) -> Tunnel:
    """``chunks``, each divided into messages of a websocket, which ends with them."""

    async def serve(client: RawConnection) -> None:
        carried = Carried(client, kind)

        async def tell() -> None:
            await client.write(switching(request, protocol))
            async for chunk in chunks:
                for part in divide(chunk) if chunk else ():
                    await carried.write(part)
            await carried.write_eof()

        async def listen() -> None:
            while await carried.read():
                pass

        telling, listening = asyncio.ensure_future(tell()), asyncio.ensure_future(listen())
        try:
            await asyncio.wait({telling, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                await asyncio.wait({listening}, timeout=LINGER)
        finally:
            for task in (telling, listening):
                task.cancel()
            await asyncio.gather(telling, listening, return_exceptions=True)
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()

    return Tunnel(serve)
