"""Leader election over a Lease (coordination.k8s.io/v1), with client-go's rules and timings.

A candidate takes the Lease when nobody holds it or when the holder has not renewed it for ``lease_seconds``, measured
by the candidate's own clock from the moment it *saw* the last renewal, so that clocks need not agree. A leader that
cannot renew within ``renew_seconds`` stops its work before anyone else can start: ``renew_seconds`` is smaller than
``lease_seconds``, and the leader counts from before it *sent* its last good renewal, which is earlier than anybody can
have seen it. Every write is a compare on the Lease's resourceVersion, so two candidates cannot both win.

Worked example: a renewal is sent at 100.0, written at 100.1, answered at 104. No later one succeeds. The leader stops
at 110; a candidate that saw the write at 100.1 waits until 115.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.kit.clock import rfc3339_micro
from bamikube.kit.world import World

log = logging.getLogger(__name__)


class LostLease(Exception):
    """Another process leads now, or the Lease could not be renewed in time."""


class LeaderElection:
    """Leads at most one process of a component. ``leading`` is set while this one leads."""

    def __init__(
        self,
        client: Client,
        world: World,
        name: str,
        identity: str,
        *,
        namespace: str = "kube-system",
        lease_seconds: float = 15.0,
        renew_seconds: float = 10.0,
        retry_seconds: float = 2.0,
    ) -> None:
        self.leading = asyncio.Event()
        self._client = client
        self._world = world
        self._name = name
        self._identity = identity
        self._namespace = namespace
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._seen: tuple[str, float] = ("", 0.0)  # revision of the Lease, and when we first saw it
        self._held: dict[str, Any] | None = None  # the Lease as our last write left it

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, run ``lead`` while holding it, and give it back at the end.

        Raises :class:`LostLease` after ``lead`` has been cancelled because the Lease was lost.
        """
        self._held = None
        while True:
            sent = self._world.clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._renew_seconds):
                    if await self._try():
                        break
            await self._world.clock.sleep(self._retry_seconds * (1 + 0.2 * self._world.chance.random()))
        log.info("became the leader of %s/%s", self._namespace, self._name)
        self.leading.set()
        working = asyncio.ensure_future(lead())
        renewing = asyncio.ensure_future(self._renew(sent))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.leading.clear()
            working.cancel()
            renewing.cancel()
            results = await asyncio.gather(working, renewing, return_exceptions=True)
            if not isinstance(results[1], LostLease):
                await self._release()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _renew(self, last: float) -> None:
        """Renew for ever; ``last`` is when the request was sent that took the Lease (monotonic seconds)."""
        clock = self._world.clock
        while True:
            left = last + self._renew_seconds - clock.monotonic()
            await clock.sleep(min(self._retry_seconds, left))
            sent = clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, last + self._renew_seconds - sent)):
                    if await self._try():
                        last = sent
                        continue
            if clock.monotonic() - last >= self._renew_seconds - 1e-6:
                raise LostLease(
                    f"lease {self._namespace}/{self._name} was not renewed for {self._renew_seconds:.0f} s"
                )

    async def _try(self) -> bool:
        """Take or renew the Lease. False when somebody else holds it or the server cannot be asked."""
        try:
            return await self._take()
        except ApiError as error:
            if error.code not in (404, 409):
                log.warning("lease %s/%s: %s", self._namespace, self._name, error.message)
        except (OSError, TimeoutError) as error:
            log.info("lease %s/%s: the API server cannot be reached (%s)", self._namespace, self._name, error)
        return False

    async def _take(self) -> bool:
        now = rfc3339_micro(self._world.clock.now())
        if self.leading.is_set() and self._held is not None:
            # While we lead nobody else writes the Lease: renew what we wrote last without reading it first.
            held, self._held = self._held, None
            try:
                await self._write(held | {"spec": self._spec(held["spec"], now)})
                return True
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        try:
            lease = await self._client.get("leases.coordination.k8s.io", self._name, self._namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            spec = self._spec({}, now)
            meta = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            if self.leading.is_set():
                raise LostLease(f"lease {self._namespace}/{self._name} has been deleted") from None
            self._held = await self._client.create("leases.coordination.k8s.io", body)
            return True
        version = lease["metadata"]["resourceVersion"]
        monotonic = self._world.clock.monotonic()
        if self._seen[0] != version:
            self._seen = (version, monotonic)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        alive = monotonic - self._seen[1] < float(spec.get("leaseDurationSeconds") or self._lease_seconds)
        if holder != self._identity and self.leading.is_set():
            # Whoever it is, and however long ago: it has led or leads, so we must not.
            raise LostLease(f"lease {self._namespace}/{self._name} is held by {holder or 'nobody'}")
        if holder not in ("", self._identity) and alive:
            return False
        await self._write(lease | {"spec": self._spec(spec, now)})
        return True

    async def _write(self, lease: dict[str, Any]) -> None:
        sent = self._world.clock.monotonic()
        self._held = await self._client.update("leases.coordination.k8s.io", lease)
        self._seen = (self._held["metadata"]["resourceVersion"], sent)

    def _spec(self, old: dict[str, Any], now: str) -> dict[str, Any]:
        mine = old.get("holderIdentity") == self._identity
        transitions = int(old.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._lease_seconds),
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions if mine or not old else transitions + 1,
        }

    async def _release(self) -> None:
        """Let the next one start at once. Failing to is harmless: the Lease runs out."""
        with contextlib.suppress(ApiError, OSError, TimeoutError):
            async with asyncio.timeout(2):
                lease = await self._client.get("leases.coordination.k8s.io", self._name, self._namespace)
                if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    # A duration of one second lets a candidate that reads only the times start at once, too.
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._client.update("leases.coordination.k8s.io", lease)
