"""Ranges of service addresses are protected: none goes while a service has an address only it can give.

Every ServiceCIDR gets a finalizer and the condition Ready. One that is being deleted gives no new addresses, and lets
its finalizer go when every service's address in it lies in another range that stays. It waits ten seconds for that at
least: an API server that has not heard of the deletion yet may still give an address of it.

Worked example: ``kubernetes`` is 10.96.0.0/24, ``more`` 10.97.0.0/24, a service holds 10.97.0.9. ``more`` is deleted:
Ready is False, reason Terminating. Then either the service goes, or somebody creates 10.97.0.0/16; ``more`` goes.

Source: KEP-1880 (multiple service CIDRs).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.predicates import conditions
from bamikube.api.predicates.servicecidrs import (
    ALLOCATOR,
    FINALIZER,
    MANAGED_BY_LABEL,
    READY,
    Address,
    address_of,
    holds,
    is_allocated,
    is_going,
    overlap,
)
from bamikube.api.times import seconds, stamp
from bamikube.controllers.shared import Controller, Shared

Object = dict[str, Any]

SERVICE_CIDRS = "servicecidrs.networking.k8s.io"
IP_ADDRESSES = "ipaddresses.networking.k8s.io"
GRACE = 10.0  # seconds between the deletion and the end of the finalizer, at least

IS_READY = {
    "type": READY,
    "status": "True",
    "reason": "",
    "message": "Kubernetes Service CIDR is ready",
}
IS_HELD = {
    "type": READY,
    "status": "False",
    "reason": "Terminating",
    "message": "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, and why. ``finalizers`` is a strategic patch of them, ``again`` seconds until the next look."""

    reason: str
    finalizers: Object | None = None
    condition: Object | None = None
    again: float | None = None


def plan(cidr: Object, others: Iterable[Object], addresses: Iterable[Address], now: float) -> Plan:
    """What to do with a ServiceCIDR, given all others and the addresses that services hold."""
    protected = FINALIZER in (cidr["metadata"].get("finalizers") or ())
    if not is_going(cidr):
        add = None if protected else {"finalizers": [FINALIZER]}
        return Plan("it is in use", add, _unless_said(cidr, IS_READY))
    held = only_in(cidr, others, addresses)
    if held is not None:
        return Plan(f"only it can give {held}", None, _unless_said(cidr, IS_HELD))
    wait = GRACE - (now - seconds(cidr["metadata"]["deletionTimestamp"]))
    if wait > 0:
        return Plan("an API server may not have heard of the deletion yet", again=wait)
    if not protected:
        return Plan("it goes without us")
    return Plan("no service needs it", {"$deleteFromPrimitiveList/finalizers": [FINALIZER]})


def only_in(cidr: Object, others: Iterable[Object], addresses: Iterable[Address]) -> Address | None:
    """An address that no other range which stays can give; None when there is none."""
    staying = [
        other
        for other in others
        if other["metadata"]["name"] != cidr["metadata"]["name"] and not is_going(other)
    ]
    for address in addresses:
        if holds(cidr, address) and not any(holds(other, address) for other in staying):
            return address
    return None


def _unless_said(cidr: Object, wanted: Object) -> Object | None:
    there = conditions.find(cidr, READY) or {}
    same = all((there.get(field) or "") == wanted[field] for field in ("status", "reason", "message"))
    return None if same else wanted


def held_addresses(objects: Iterable[Object]) -> list[Address]:
    """The addresses of those IPAddresses that were made for services."""
    found = (address_of(each) for each in objects if is_allocated(each))
    return [address for address in found if address is not None]


class ServiceCidrController(Controller):
    name = "service-cidr-controller"
    workers = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.cidrs = shared.informers.of(SERVICE_CIDRS)
        self.addresses = shared.informers.of(IP_ADDRESSES)
        self.cidrs.on_change(self._cidr_changed)
        self.addresses.on_change(self._address_changed)

    def _cidr_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        self.queue.add(key)
        if old is None and new is not None:  # a new range may set others free
            for other in self.cidrs.items():
                if overlap(other, new):
                    self.queue.add(other["metadata"]["name"])

    def _address_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        """An address that comes or goes may hold a range or set it free."""
        if old is not None and new is not None:
            return
        changed: Object = new if new is not None else old or {"metadata": {"name": ""}}
        address = address_of(changed) if is_allocated(changed) else None
        if address is not None:
            for cidr in self.cidrs.items():
                if is_going(cidr) and holds(cidr, address):
                    self.queue.add(cidr["metadata"]["name"])

    async def sync(self, key: str) -> float | None:
        await self.cidrs.synced.wait()
        await self.addresses.synced.wait()
        cidr = self.cidrs.get(key)
        if cidr is None:
            return None
        found = self._plan(cidr, self.addresses.items())
        if is_going(cidr) and found.finalizers is not None:
            # The copy may lack an address that was given last: before the range is given up the server is asked.
            listed = await self.client.list(IP_ADDRESSES, labels=f"{MANAGED_BY_LABEL}={ALLOCATOR}")
            found = self._plan(cidr, listed.get("items") or [])
        try:
            if found.finalizers is not None:
                patch = {"metadata": found.finalizers}
                await self.client.patch(SERVICE_CIDRS, key, patch, kind="strategic")
            if found.condition is not None:
                await self._say(cidr, found.condition)
        except ApiError as error:
            if error.code != 404:
                raise
        return found.again

    def _plan(self, cidr: Object, addresses: Iterable[Object]) -> Plan:
        now = self.world.clock.now()
        return plan(cidr, self.cidrs.items(), held_addresses(addresses), now)

    async def _say(self, cidr: Object, condition: Object) -> None:
        body = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": cidr["metadata"]["name"]},
            "status": {
                "conditions": [{**condition, "lastTransitionTime": stamp(self.world.clock.now())}],
            },
        }
        try:
            await self.client.patch(
                SERVICE_CIDRS,
                cidr["metadata"]["name"],
                body,
                kind="apply",
                subresource="status",
                field_manager=self.name,
                force=True,
            )
        except ApiError as error:
            if error.code != 404 and condition is IS_READY:
                text = "The ServiceCIDR Status can not be set to Ready=True"
                self.record(cidr, "Warning", "KubernetesServiceCIDRError", text)
            raise
