"""The ServiceCIDR ``kubernetes``: the range of ``--service-cluster-ip-range``, as an object.

The first API server of a cluster creates it, and each of them creates it again when it is gone. What it says is kept:
a server whose flag says otherwise tells so with an event and changes nothing, but for one case: a second range of the
other family is added to the first one, which makes a cluster dual-stack.

Worked example: the cluster has ``10.96.0.0/12``; a server is started with ``10.96.0.0/12,fd00:10:96::/112``: the
object gets both. The next one is started with ``10.97.0.0/16``: a warning event KubernetesDefaultServiceCIDRInconsistent.

Source: KEP-1880 (multiple service CIDRs), "Kubernetes Default Service CIDR Reconfiguration".
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.predicates import conditions
from bamikube.api.predicates.servicecidrs import DEFAULT, READY, is_going
from bamikube.api.times import stamp
from bamikube.apiserver.bootstrap.loop import Writer
from bamikube.apiserver.registry.reader import Reader
from bamikube.client.events import EventRecorder
from bamikube.kit.world import World
from bamikube.store.port import StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]

COMPONENT = "kubernetes-service-cidr-controller"
SERVICE_CIDRS = ("networking.k8s.io", "servicecidrs")
INTERVAL = 10.0
RETRY = 0.1  # seconds, until there is one: requests wait for it
_FAILED = "KubernetesDefaultServiceCIDRError"


@dataclass(frozen=True, slots=True)
class Plan:
    """``action`` is create, extend, ready (say that it is) or "" (leave it), ``event`` a warning: reason and note."""

    action: str
    event: tuple[str, str] | None = None


def plan(stored: Object | None, wanted: list[str]) -> Plan:
    """What to do, given the ServiceCIDR that is there and the ranges that the flag names."""
    if stored is None:
        return Plan("create")
    there = list((stored.get("spec") or {}).get("cidrs") or ())
    if len(wanted) == 2 and there == wanted[:1]:
        return Plan("extend")
    if is_going(stored):
        return Plan("")
    if there != wanted:
        note = f"The default ServiceCIDR {_list(there)} does not match the controller flag configurations {_list(wanted)}"
        return Plan("", ("KubernetesDefaultServiceCIDRInconsistent", note))
    condition = conditions.find(stored, READY) or {}
    if condition.get("status") == "False":
        note = f"Configuration matches, but {condition.get('message', '')}"
        return Plan("", (condition.get("reason", ""), note))
    return Plan("" if condition.get("status") == "True" else "ready")


def default_object(wanted: list[str]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT},
        "spec": {"cidrs": wanted},
    }


class DefaultServiceCidr:
    """Keeps it there. ``ready`` is set once it can be read here."""

    def __init__(
        self, reader: Reader, writer: Writer, world: World, events: EventRecorder, wanted: list[str]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._world = world
        self._events = events
        self._wanted = wanted
        self._row = table.by_name("servicecidrs.networking.k8s.io")
        self._told: set[str] = set()  # reasons of warnings about what only a person can change
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        await self._reader.synced.wait()
        while True:
            try:
                await self.reconcile()
            except (ApiError, StoreError) as problem:
                log.warning("the default ServiceCIDR could not be brought up to date: %s", problem)
            await self._world.clock.sleep(INTERVAL if self.ready.is_set() else RETRY)

    async def reconcile(self) -> None:
        """One look. Raises ApiError and StoreError when it could not be created."""
        stored = self._reader.get(SERVICE_CIDRS, "", DEFAULT)
        decided = plan(stored, self._wanted)
        if decided.action == "create":
            await self._create()
            return
        self.ready.set()
        assert stored is not None  # plan() creates what is not there
        if decided.event is not None and decided.event[0] not in self._told:
            self._told.add(decided.event[0])
            log.warning("the default ServiceCIDR: %s", decided.event[1])
            self._warn(*decided.event)
        if decided.action == "extend":
            failed = f"can not be upgraded from {self._wanted[0]} to dual stack {_list(self._wanted)}"
            extended = {**stored, "spec": {"cidrs": self._wanted}}
            await self._update(extended, "", failed)
        elif decided.action == "ready":
            await self._say_ready(stored)

    async def _create(self) -> None:
        wanted = default_object(self._wanted)
        try:
            stored = await self._writer.create(self._row, wanted)
        except ApiError as problem:
            if problem.reason == "AlreadyExists":  # another server was faster; the next look sees it
                return
            self._warn(_FAILED, "The default ServiceCIDR can not be created")
            raise
        self.ready.set()
        await self._say_ready(stored)

    async def _say_ready(self, stored: Object) -> None:
        condition = {
            "type": READY,
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
        }
        before = list((stored.get("status") or {}).get("conditions") or ())
        said = conditions.put(before, condition, stamp(self._world.clock.now()))
        changed = {**stored, "status": {"conditions": said}}
        await self._update(changed, "status", "Status can not be set to Ready=True")

    async def _update(self, changed: Object, subresource: str, failed: str) -> None:
        try:
            await self._writer.update(self._row, changed, subresource=subresource)
        except ApiError as problem:
            if problem.reason in (
                "Conflict",
                "NotFound",
            ):  # somebody else has just changed it; the next look sees it
                return
            detail = "" if subresource else f" : {problem.message}"
            self._warn(_FAILED, f"The default ServiceCIDR {failed}{detail}")

    def _warn(self, reason: str, note: str) -> None:
        stored = self._reader.get(SERVICE_CIDRS, "", DEFAULT) or default_object(self._wanted)
        self._events.event(stored, "Warning", reason, note, component=COMPONENT)


def _list(values: list[str]) -> str:
    """As Kubernetes shows a list in a message."""
    return f"[{' '.join(values)}]"
