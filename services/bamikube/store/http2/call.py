"""One call, and what becomes of it.

What a stream's end means is gRPC's business ("gRPC over HTTP2", "Status codes and their use in gRPC")::

    grpc-status 0 and one message         the message
    grpc-status N                         CallError(N, grpc-message)
    no grpc-status, :status 503           CallError(UNAVAILABLE), and so on
    RST_STREAM with CANCEL                CallError(CANCELLED), and so on
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc import StatusCode

from bamikube.store.http2 import frames
from bamikube.store.http2.frames import unpack_long
from bamikube.store.http2.headers import Head

if TYPE_CHECKING:
    from bamikube.store.http2.connection import Connection

REFUSALS = 4  # times a server may refuse to begin a call before it has failed

_STATUS: dict[int, StatusCode] = {code.value[0]: code for code in StatusCode}
OF_RESET = {
    frames.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    frames.CANCEL: StatusCode.CANCELLED,
    frames.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}
_OF_HTTP = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}


class CallError(Exception):
    """The call failed, with gRPC's code and the server's words (or ours, about the connection)."""

    def __init__(self, code: StatusCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


class Call:
    """A request on its way. ``body`` is the framed message; ``outcome`` becomes the answer's message.

    ``ends``: the stream is over, for us, with the request. ``hungry``: more of the answer may come.
    """

    __slots__ = (
        "block",
        "body",
        "connection",
        "head",
        "outcome",
        "parts",
        "received",
        "refused",
        "sent",
        "stream",
        "window",
    )

    ends = True

    def __init__(self, block: bytes, body: bytes, outcome: asyncio.Future[bytes]) -> None:
        self.block = block
        self.body = body
        self.outcome = outcome
        self.connection: Connection | None = None
        self.refused = 0  # times
        self.stream = 0
        self.sent = 0  # bytes of the body that have left
        self.window = 0  # bytes the server takes on this stream
        self.received = 0  # bytes since the stream's window was made wide
        self.parts: list[bytes] = []
        self.head: Head | None = None

    @property
    def hungry(self) -> bool:
        return True

    def receive(self, part: bytes) -> None:
        """A piece of the answer."""
        self.parts.append(part)

    def refuse(self) -> bool:
        """The server has not begun the call: whether it shall be begun anew."""
        self.refused += 1
        self.stream = self.sent = self.received = 0
        self.parts, self.head = [], None
        return self.refused < REFUSALS

    def settle(self) -> None:
        """The server has said its last word: that is the outcome."""
        outcome, head = self.outcome, self.head
        if outcome.done():
            return
        status = head.grpc if head is not None else None
        if status == 0:
            message = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            if message[:1] == b"\0" and len(message) >= 5 and unpack_long(message, 1)[0] == len(message) - 5:
                outcome.set_result(message[5:])
            else:
                self.fail(StatusCode.INTERNAL, "the answer is not one uncompressed message")
        elif head is not None and status is not None:
            self.fail(_STATUS.get(status, StatusCode.UNKNOWN), head.message)
        elif head is not None and head.http not in (0, 200):
            self.fail(_OF_HTTP.get(head.http, StatusCode.UNKNOWN), f"the server answered HTTP {head.http}")
        else:
            self.fail(StatusCode.INTERNAL, "the answer carries no status")

    def fail(self, code: StatusCode, text: str) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(CallError(code, text))
