"""A call that stays open, and whose answer is message after message: a watch.

Its request is one message, too, but the stream is not ended behind it: etcd takes that for the end of the watch. It has no
deadline. Messages that nobody takes are not read on for ever: the stream's window is made wide again only when all that
came has been taken.

::

    ours    HEADERS   DATA (create)
    theirs  HEADERS          DATA (created) DATA (events) DATA (events) ...          HEADERS (grpc-status), END_STREAM

It does not outlive GOAWAY: whoever reads it opens the next one where the last has ended, on another connection.
"""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from bamikube.store.http2.call import Call
from bamikube.store.http2.frames import unpack_long

PREFIX = 5  # bytes before a message: whether it is compressed, and its length


class Flow(Call):
    """``outcome`` is done when the flow is over: with nothing when the server has ended it in order."""

    __slots__ = ("_have", "_messages", "_need", "_taker")

    ends = False

    def __init__(self, block: bytes, body: bytes, outcome: asyncio.Future[bytes]) -> None:
        super().__init__(block, body, outcome)
        self._messages: list[bytes] = []
        self._have = 0  # bytes in ``parts``
        self._need = PREFIX  # bytes of them that make the next message whole, as far as that is known
        self._taker: asyncio.Future[None] | None = None
        outcome.add_done_callback(self._over)

    @property
    def hungry(self) -> bool:
        return not self._messages

    async def take(self) -> list[bytes]:
        """All messages that came since the last time; waits for one. An empty list: the flow is over. Raises ``CallError``."""
        while not self._messages:
            if self.outcome.done():
                self.outcome.result()
                return []
            self._taker = asyncio.get_running_loop().create_future()
            await self._taker
        messages, self._messages = self._messages, []
        if self.connection is not None:
            self.connection.widen(self)
        return messages

    def receive(self, part: bytes) -> None:
        self.parts.append(part)
        self._have += len(part)
        if self._have < self._need:
            return
        data = part if len(self.parts) == 1 else b"".join(self.parts)
        at, size = 0, len(data)
        self._need = PREFIX
        while size - at >= PREFIX:
            if data[at]:
                self.fail(StatusCode.INTERNAL, "the answer has a compressed message")
                return
            end = at + PREFIX + unpack_long(data, at + 1)[0]
            if end > size:
                self._need = end - at
                break
            self._messages.append(data[at + PREFIX : end])
            at = end
        self.parts = [data[at:]] if at < size else []
        self._have = size - at
        if self._messages:
            self._tell()

    def settle(self) -> None:
        if self.head is not None and self.head.grpc == 0:
            if not self.outcome.done():
                self.outcome.set_result(b"")
        else:
            super().settle()

    def _over(self, outcome: asyncio.Future[bytes]) -> None:
        if not outcome.cancelled():
            outcome.exception()  # nobody need ask
        self._tell()

    def _tell(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
