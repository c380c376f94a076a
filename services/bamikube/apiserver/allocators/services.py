"""What a Service is given when it is written: IP families, cluster IPs, node ports, health-check node port.

The decisions are pure (:mod:`~bamikube.apiserver.allocators.families`, and what is asked of addresses and ports);
:class:`ServiceAllocator` turns them into guards and writes that join the service's own transaction.

Worked example, a NodePort service with ports 80/TCP and 80/UDP and nothing chosen: one cluster IP and one node
port are picked; both ports get that node port (they have the same service port); the transaction carries two
guards (both records absent) and two puts. Changing the type to ClusterIP deletes the record of the node port in the
transaction that stores the new type.

Source: the Service API, "Service ClusterIP allocation", KEP-563, KEP-1880.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bamikube.api import errors
from bamikube.api.errors import Cause
from bamikube.api.predicates.services import HEADLESS, is_headless, needs_cluster_ip
from bamikube.api.resources import Resource
from bamikube.api.validation.rules import invalid
from bamikube.apiserver.allocators import figures, ports
from bamikube.apiserver.allocators.addresses import TAKEN, Addresses
from bamikube.apiserver.allocators.families import settle, stays
from bamikube.apiserver.allocators.pool import Exhausted, Refused
from bamikube.apiserver.allocators.ports import NodePorts
from bamikube.apiserver.registry.hooks import NOTHING, Extra
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World
from bamikube.store.port import Compare, Delete, Put, Store

SERVICES = ("", "services")

Spec = dict[str, Any]


class ServiceAllocator:
    """The :class:`~bamikube.apiserver.registry.hooks.WriteHook` of services.

    ``cidrs`` are those of ``--service-cluster-ip-range``, ``node_ports`` ``--service-node-port-range``.
    """

    def __init__(
        self,
        store: Store,
        reader: Reader,
        world: World,
        cidrs: Sequence[str] = ("10.96.0.0/12",),
        node_ports: str = "30000-32767",
    ) -> None:
        self._store = store
        self._reader = reader
        self.addresses = Addresses(reader, world, cidrs)
        self.ports = NodePorts(node_ports, world)
        reader.subscribe(SERVICES, self._changed)

    def applies(self, resource: Resource) -> bool:
        return resource.key == SERVICES

    async def on_create(self, obj: dict[str, Any]) -> Extra:
        """Fills in what is missing in ``obj`` and claims all of it. Raises ApiError 422 for what is taken."""
        return await self._claim(None, obj)

    async def on_update(self, old: dict[str, Any], obj: dict[str, Any]) -> Extra:
        """Claims what is new, gives back what is gone."""
        return await self._claim(old, obj)

    async def on_delete(self, obj: dict[str, Any]) -> Extra:
        spec = obj.get("spec") or {}
        return _extra([], [Delete(key) for key in (*self._address_keys(spec), *self._port_keys(spec))])

    async def _claim(self, old: dict[str, Any] | None, obj: dict[str, Any]) -> Extra:
        spec = obj.setdefault("spec", {})
        before: Spec | None = (old.get("spec") or {}) if old is not None else None
        causes = settle(spec, before, self.addresses.families)
        if causes:
            raise _invalid(obj, causes)
        writes: list[Put | Delete] = []
        counted: list[Callable[[], None]] = []
        for ip, requested in await self._addresses(obj, before):
            key = self.addresses.key(ip)
            labels = (self.addresses.range_of(ip), _scope(requested))
            if requested and await self._store.get(key) is not None:
                figures.ADDRESS_ERRORS.labels(*labels).inc()
                raise _invalid(obj, [_unavailable(ip, obj["spec"]["clusterIPs"], TAKEN)])
            counted.append(figures.ADDRESSES.labels(*labels).inc)
            writes.append(Put(key, self.addresses.record(ip, obj)))
        for claim in self._new_ports(obj, before):
            key = self.ports.key(claim.port)
            if claim.requested and await self._store.get(key) is not None:
                figures.PORT_ERRORS.labels(figures.STATIC).inc()
                raise _invalid(obj, [invalid(claim.field, claim.port, claim.wording)])
            counted.append(figures.PORTS.labels(_scope(claim.requested)).inc)
            writes.append(Put(key, ports.record(obj)))
        guards = [Compare(put.key, 0) for put in writes]
        if before is not None:
            kept = {*self._address_keys(spec), *self._port_keys(spec)}
            gone = (*self._address_keys(before), *self._port_keys(before))
            writes.extend(Delete(key) for key in gone if key not in kept)
        if not spec.get("ports"):
            spec.pop("ports", None)
        return _extra(guards, writes, counted)

    def tell(self) -> None:
        """Bring the figures of what is taken and free up to date."""
        self.addresses.tell()
        taken = self.ports.ledger.count(self.ports.first, self.ports.last + 1)
        figures.PORTS_TAKEN.set(taken)
        figures.PORTS_FREE.set(self.ports.last + 1 - self.ports.first - taken)

    # -- cluster IPs -----------------------------------------------------------------------------------------------

    async def _addresses(self, obj: dict[str, Any], old: Spec | None) -> list[tuple[str, bool]]:
        """Sets the cluster IPs; returns those to claim, each with whether the client asked for it."""
        try:
            return self._new_addresses(obj["spec"], old)
        except (Refused, Exhausted):
            # Perhaps another API server has just been given a range that has what is lacking.
            await self._reader.consistent()
        try:
            return self._new_addresses(obj["spec"], old)
        except Refused as refused:
            raise _invalid(obj, [refused.cause]) from None
        except Exhausted:
            for cidr in self.addresses.ready:
                figures.ADDRESS_ERRORS.labels(cidr, figures.DYNAMIC).inc()
            raise errors.internal("failed to allocate a serviceIP: range is full") from None

    def _new_addresses(self, spec: Spec, old: Spec | None) -> list[tuple[str, bool]]:
        if not needs_cluster_ip(spec) or is_headless(spec) or stays(spec, old):
            return []
        given: list[str] = list(spec.get("clusterIPs") or ())
        families: list[str] = spec["ipFamilies"]
        if old is None or not needs_cluster_ip(old):
            first = 0
        elif is_headless(old) or (len(old.get("ipFamilies") or ()), len(families)) != (1, 2):
            return []  # nothing is added; that nothing else changes is for validation to say
        else:
            first = 1
        given += [""] * (len(families) - len(given))
        asked = list(given)
        claims: list[tuple[str, bool]] = []
        for index in range(first, len(families)):
            ip = given[index]
            wrong = self.addresses.refusal(ip) if ip else ""
            if wrong:
                raise Refused(_unavailable(ip, asked, wrong))
            given[index] = ip or self.addresses.pick(families[index])
            claims.append((given[index], bool(ip)))
        spec["clusterIP"], spec["clusterIPs"] = given[0], given
        return claims

    def _address_keys(self, spec: Spec) -> list[bytes]:
        return [self.addresses.key(ip) for ip in held_addresses(spec)]

    # -- node ports ------------------------------------------------------------------------------------------------

    def _new_ports(self, obj: dict[str, Any], old: Spec | None) -> list[ports.Claim]:
        try:
            return self.ports.claims(obj["spec"], old)
        except Refused as refused:
            figures.PORT_ERRORS.labels(figures.STATIC).inc()
            raise _invalid(obj, [refused.cause]) from None
        except Exhausted:
            figures.PORT_ERRORS.labels(figures.DYNAMIC).inc()
            raise errors.internal("failed to allocate a nodePort: range is full") from None

    def _port_keys(self, spec: Spec) -> list[bytes]:
        return [self.ports.key(port) for port in ports.held(spec)]

    def _changed(self, _type: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        before = ports.held(old.get("spec") or {}) if old is not None else ()
        after = ports.held(new.get("spec") or {}) if new is not None else ()
        for port in before:
            if port not in after:
                self.ports.ledger.release(port)
        for port in after:
            self.ports.ledger.take(port)


def held_addresses(spec: Spec) -> tuple[str, ...]:
    """The cluster IPs that a stored service holds."""
    if not needs_cluster_ip(spec):
        return ()
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return tuple(ip for ip in listed if ip and ip != HEADLESS)


def _unavailable(ip: str, asked: list[str], why: str) -> Cause:
    return invalid("spec.clusterIPs", asked, f"failed to allocate IP {ip}: {why}")


def _extra(
    guards: list[Compare], writes: list[Put | Delete], done: Sequence[Callable[[], None]] = ()
) -> Extra:
    return Extra(guards, writes, list(done)) if guards or writes else NOTHING


def _scope(requested: bool) -> str:
    return figures.STATIC if requested else figures.DYNAMIC


def _invalid(obj: dict[str, Any], causes: list[Cause]) -> errors.ApiError:
    return errors.invalid("Service", obj["metadata"].get("name", ""), causes)
