"""The network between services and API servers: it delays, loses, cuts and partitions, by the seed's dice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from bamikube.kit.http import Answer, Handler, Request, Stream
from bamikube.kit.world import World


class Network:
    """``loss`` is the chance that a request or its answer is lost; ``cut`` that a stream ends at a chunk."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loss = 0.0
        self.cut = 0.0
        self.partitioned: set[str] = set()

    def transport(self, user: str, groups: str, pick: Callable[[], Handler | None]) -> SimulatedTransport:
        return SimulatedTransport(self, user, groups, pick)


class SimulatedTransport:
    """A client's way to whichever API server ``pick`` names. ``user`` and ``groups`` stand for its credentials."""

    def __init__(self, network: Network, user: str, groups: str, pick: Callable[[], Handler | None]) -> None:
        self._network = network
        self._user = user
        self._headers = {"x-simulated-user": user, "x-simulated-groups": groups}
        self._pick = pick

    def _reach(self) -> Handler:
        handler = self._pick()
        if handler is None or self._user in self._network.partitioned:
            raise ConnectionError("no API server can be reached")
        return handler

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"", stream: bool = False
    ) -> Answer:
        world, network = self._network.world, self._network
        await world.clock.sleep(world.chance.uniform(0.0002, 0.004))
        handler = self._reach()
        if world.chance.random() < network.loss:
            raise ConnectionError("the request was lost")
        merged = {name.lower(): value for name, value in headers.items()} | self._headers
        answer = await handler(Request.make(method, target, headers=merged, body=body))
        await world.clock.sleep(world.chance.uniform(0.0002, 0.004))
        self._reach()
        if world.chance.random() < network.loss:
            raise ConnectionError("the answer was lost; what was asked may have happened")
        if isinstance(answer, Stream):
            answer.chunks = self._carried(answer.chunks, handler)
        return answer

    async def _carried(self, chunks: AsyncIterator[bytes], handler: Handler) -> AsyncIterator[bytes]:
        world, network = self._network.world, self._network
        try:
            async for chunk in chunks:
                await world.clock.sleep(world.chance.uniform(0.0001, 0.003))
                # Bound methods are made anew at each look: what counts is that it is the same server's.
                if self._reach() != handler or world.chance.random() < network.cut:
                    raise ConnectionError("the stream was cut")
                yield chunk
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    async def close(self) -> None:
        return None
