"""Leader election on virtual time: two never lead at once, whatever the network does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from bamikube.api.errors import already_exists, conflict, not_found
from bamikube.client.leader import LeaderElection, LostLease
from bamikube.kit.chance import Chance
from bamikube.kit.clock import LoopClock
from bamikube.kit.world import World
from tests.simulation.virtual import run

Object = dict[str, Any]


class Leases:
    """One Lease with compare-and-swap, behind a link that can be cut or made slow for each candidate."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.revision = 0


class Link:
    """A client of :class:`Leases`; ``down`` loses requests, ``slow`` delays answers by seconds."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.down = False
        self.slow = 0.0
        self.calls = 0

    async def _pass(self) -> None:
        self.calls += 1
        await asyncio.sleep(0.01)
        if self.down:
            await asyncio.sleep(1)
            raise ConnectionError("no way")

    async def get(self, resource: str, name: str, namespace: str) -> Object:
        await self._pass()
        if self.leases.lease is None:
            raise not_found("leases", name)
        found = self.leases.lease
        return {**found, "spec": dict(found["spec"]), "metadata": dict(found["metadata"])}

    async def create(self, resource: str, body: Object) -> Object:
        await self._pass()
        if self.leases.lease is not None:
            raise already_exists("leases", "x")
        return await self._write(body)

    async def update(self, resource: str, body: Object) -> Object:
        await self._pass()
        held = self.leases.lease
        if held is None or held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise conflict("leases", "x", "modified")
        return await self._write(body)

    async def _write(self, body: Object) -> Object:
        self.leases.revision += 1
        meta = {**body["metadata"], "resourceVersion": str(self.leases.revision)}
        self.leases.lease = {**body, "metadata": meta}
        written = {**body, "metadata": dict(meta)}
        if self.slow:
            await asyncio.sleep(self.slow)
        return written


class Candidate:
    def __init__(self, name: str, leases: Leases, leading: list[str]) -> None:
        self.link = Link(leases)
        self.name = name
        self.ended: BaseException | None = None
        self._leading = leading
        world = World(LoopClock(), Chance(len(name)))
        self.election = LeaderElection(self.link, world, "test", name)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> None:
        while True:
            try:
                await self.election.run(self._lead)
            except LostLease as error:
                self.ended = error

    async def _lead(self) -> None:
        self._leading.append(self.name)
        assert len(self._leading) == 1, f"{self._leading} lead at once"
        try:
            await asyncio.Event().wait()
        finally:
            self._leading.remove(self.name)


async def stop(*candidates: Candidate) -> None:
    for one in candidates:
        one.task.cancel()
    await asyncio.gather(*(one.task for one in candidates), return_exceptions=True)


def test_one_leads_and_the_other_takes_over_when_it_stops() -> None:
    async def main() -> None:
        leases, leading = Leases(), []  # type: ignore[var-annotated]
        first = Candidate("a", leases, leading)
        await asyncio.sleep(1)
        second = Candidate("bb", leases, leading)
        await asyncio.sleep(60)
        assert leading == ["a"]
        await stop(first)
        assert leases.lease is not None and leases.lease["spec"]["holderIdentity"] == ""
        await asyncio.sleep(4)
        assert leading == ["bb"] and leases.lease["spec"]["leaseTransitions"] == 1
        await stop(second)

    run(main())


def test_renewing_costs_one_request() -> None:
    async def main() -> None:
        leases, leading = Leases(), []  # type: ignore[var-annotated]
        only = Candidate("a", leases, leading)
        await asyncio.sleep(5)
        before = only.link.calls
        await asyncio.sleep(20)
        assert only.link.calls - before <= 11
        await stop(only)

    run(main())


@pytest.mark.parametrize("slow", [0.0, 3.0, 6.0, 9.0])
def test_a_leader_that_is_cut_off_stops_before_the_next_one_starts(slow: float) -> None:
    """Also when its last good renewal was answered late: it counts from when it asked."""

    async def main() -> None:
        leases, leading = Leases(), []  # type: ignore[var-annotated]
        first = Candidate("a", leases, leading)
        await asyncio.sleep(1)
        second = Candidate("bb", leases, leading)
        first.link.slow = slow
        await asyncio.sleep(40)
        first.link.down = True
        start = asyncio.get_running_loop().time()
        while leading != ["bb"]:
            await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() - start < 60
        assert isinstance(first.ended, LostLease)
        await stop(first, second)

    run(main())


def test_a_lease_taken_by_somebody_else_ends_the_leader() -> None:
    async def main() -> None:
        leases, leading = Leases(), []  # type: ignore[var-annotated]
        first = Candidate("a", leases, leading)
        await asyncio.sleep(5)
        assert leases.lease is not None
        leases.revision += 1
        leases.lease["metadata"]["resourceVersion"] = str(leases.revision)
        leases.lease["spec"]["holderIdentity"] = "thief"
        await asyncio.sleep(4)
        assert leading == [] and "thief" in str(first.ended)
        await stop(first)

    run(main())


def test_work_that_fails_gives_the_lease_back() -> None:
    async def main() -> None:
        leases = Leases()

        async def fail() -> None:
            raise ValueError("broken")

        link: Any = Link(leases)
        election = LeaderElection(link, World(LoopClock(), Chance(1)), "test", "a")
        with contextlib.suppress(ValueError):
            await election.run(fail)
        assert leases.lease is not None and leases.lease["spec"]["holderIdentity"] == ""

    run(main())
