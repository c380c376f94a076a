"""Pods together are held to what the node may give, and daemons to what is reserved for them.

More than that may be in use when the node agent starts; the kernel refuses such a bound until eviction has made room, so it is tried again
every minute. A cgroup of daemons that cannot be bound ends the node agent: its reservation would be none.

Source: "Reserve Compute Resources for System Daemons"; the words of the events are the kubelet's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from bamikube.kit.clock import Clock
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.node import reservations
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.node.reservations import Bounds, Reservation

log = logging.getLogger(__name__)

RETRY = 60.0  # seconds
FAILED, DONE = "FailedNodeAllocatableEnforcement", "NodeAllocatableEnforced"


class Enforcement:
    """``bound`` binds a cgroup ("": that of all pods); ``event`` tells of the node: type, reason, message."""

    def __init__(
        self,
        bound: Callable[[Bounds, str], Awaitable[None]],
        event: Callable[[str, str, str], None],
        clock: Clock,
        root: str,
    ) -> None:
        self._bound, self._event, self._clock = bound, event, clock
        names = [part for part in root.split("/") if part]
        self._pods = f"[{' '.join(json.dumps(name) for name in (*names, 'kubepods'))}]"

    async def pods(self, machine: Machine, given: Reservation) -> None:
        """Bind all pods together, sooner or later. Without enforcement it is to all that the machine has: they would weigh as little as
        one process otherwise."""
        bounds = reservations.bounds(machine, given if given.enforced else reservations.NOTHING)
        while True:
            try:
                await self._bound(bounds, "")
            except HostFailure as failure:
                log.warning("pods are not bound to what the node may give: %s", failure)
                text = f"Failed to update Node Allocatable Limits {self._pods}: {failure}"
                self._event("Warning", FAILED, text)
            else:
                self._event("Normal", DONE, "Updated Node Allocatable limit across pods")
                return
            await self._clock.sleep(RETRY)

    async def daemons(self, given: Reservation) -> None:
        """Bind daemons to what is reserved for them. Raises HostFailure."""
        for one in given.daemons:
            try:
                await self._bound(one.bounds, one.cgroup)
            except HostFailure as failure:
                kind = f"{one.name.capitalize()} Reserved{' Compressible' if one.compressible else ''}"
                text = f'Failed to enforce {kind} Cgroup Limits on "{one.cgroup}": {failure}'
                self._event("Warning", FAILED, text)
                raise HostFailure(text) from failure
            text = f"Updated limits on {one.name} reserved cgroup {one.cgroup}"
            self._event("Normal", DONE, text)
