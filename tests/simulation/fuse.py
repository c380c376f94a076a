"""Death at a chosen point: once a fuse has blown, nothing of that life has any effect any more.

Cancelling a task lets it tidy up; ``kill -9`` does not. So everything an agent does to the world goes through its fuse: the
call at which it blows takes effect or not, as was chosen, and those after it do not.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from bamikube.client.transport import Transport
from bamikube.kit.http import Answer, Stream

# A dead process is cancelled from within, too: no ``except Exception`` may go on from here.
Dead = asyncio.CancelledError


class Fuse:
    """The life of one process. ``arm`` lets it die at a call to come, ``blow`` at once."""

    def __init__(self) -> None:
        self.blown = False
        self.point = ""  # where it blew
        self.died: Callable[[], None] = lambda: None
        self._left = 0
        self._before = False

    def arm(self, calls: int, before: bool) -> None:
        """Die at the ``calls``-th call from now on, ``before`` it takes effect or after."""
        self._left, self._before = calls, before

    def blow(self, point: str = "") -> None:
        if not self.blown:
            self.blown, self.point = True, point
            self.died()

    def enter(self, what: str) -> bool:
        """A call begins; whether it is the last one. Raises Dead."""
        self.check()
        last = self._left == 1
        self._left = max(0, self._left - 1)
        if last and self._before:
            self.blow(f"before {what}")
            self.check()
        return last

    def leave(self, what: str, last: bool) -> None:
        """It took effect. Raises Dead, in place of an answer."""
        if last:
            self.blow(f"after {what}")
        self.check()

    def check(self) -> None:
        if self.blown:
            raise Dead


class Fused:
    """Any port behind a fuse. ``quiet`` names calls that are too many to die at."""

    def __init__(self, port: Any, fuse: Fuse, name: str, quiet: frozenset[str] = frozenset()) -> None:
        self._port, self._fuse, self._name, self._quiet = port, fuse, name, quiet

    def __getattr__(self, name: str) -> Any:
        found, fuse, what = getattr(self._port, name), self._fuse, f"{self._name}.{name}"
        if not callable(found):
            return found

        async def later(*given: Any, **named: Any) -> Any:
            last = not quiet and fuse.enter(what)
            fuse.check()
            answer = await found(*given, **named)
            fuse.leave(what, last)
            return answer

        def now(*given: Any, **named: Any) -> Any:
            fuse.check()
            return found(*given, **named)

        quiet = name in self._quiet
        return later if inspect.iscoroutinefunction(found) else now


class FusedTransport:
    """A client's way to the API server, behind a fuse; reads are no points to die at, writes are."""

    def __init__(self, transport: Transport, fuse: Fuse) -> None:
        self._transport, self._fuse = transport, fuse

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"", stream: bool = False
    ) -> Answer:
        writes, what = method != "GET" and "/leases/" not in target, f"{method} {target.partition('?')[0]}"
        last = writes and self._fuse.enter(what)
        self._fuse.check()
        answer = await self._transport.send(method, target, headers=headers, body=body, stream=stream)
        self._fuse.leave(what, last)
        if isinstance(answer, Stream):
            answer.chunks = self._carried(answer.chunks)
        return answer

    async def _carried(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                self._fuse.check()
                yield chunk
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    async def close(self) -> None:
        return None
