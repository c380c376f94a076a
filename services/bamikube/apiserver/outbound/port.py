"""The port through which the API server reaches others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bamikube.apiserver.outbound.destination import Destination
from bamikube.kit.http import RawConnection

Headers = Sequence[tuple[str, str]]

# How webhooks are spoken to, under the name their authors know from Kubernetes' API server.
JSON_HEADERS: Headers = (
    ("Content-Type", "application/json"),
    ("Accept", "application/json, */*"),
    ("User-Agent", "kube-apiserver-admission"),
)


class CallError(Exception):
    """Nobody answered. The text says why, in the words Go's HTTP client has for it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Incoming(Protocol):
    """An answer that is still coming in. It must be read to its end or closed."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class Caller(Protocol):
    """Requests to others. Nothing here goes through a proxy or follows a redirect."""

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
        """One request, answered within ``timeout`` seconds. ``target`` is percent-encoded. Raises CallError."""

    async def open(
        self, to: Destination, method: str, target: str, *, headers: Headers = (), body: bytes = b""
    ) -> Incoming:
        """One request whose answer may go on for ever. Raises CallError."""

    async def raw(self, to: Destination) -> RawConnection:
        """A connection for whoever speaks to it himself. Raises CallError."""

    async def close(self) -> None: ...
