"""Keep services and the records of what they hold in step: what was written behind the API server's back is put right.

Changes of services and IPAddresses are looked at as the cache sees them, everything again every three minutes. Each
correction is one transaction guarded by what was read, so that it cannot undo a write that happens meanwhile, and of
several API servers one makes it and tells of it.

Worked example: somebody deletes the IPAddress 10.96.0.7 of default/web. The deletion brings default/web into the queue,
its IPAddress is written again, and ``kubectl describe service web`` shows a warning ClusterIPNotAllocated.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bamikube.api import table
from bamikube.apiserver.allocators import figures, ports
from bamikube.apiserver.allocators.addresses import IP_ADDRESSES, SERVICE_CIDRS
from bamikube.apiserver.allocators.judging import Finding, of_address, of_ports, of_service
from bamikube.apiserver.allocators.services import SERVICES, ServiceAllocator
from bamikube.apiserver.cache import keys
from bamikube.apiserver.registry.reader import Reader
from bamikube.client.events import EventRecorder
from bamikube.kit.tasks import Tasks
from bamikube.kit.workqueue import WorkQueue, work
from bamikube.kit.world import World
from bamikube.store.port import Compare, Delete, Put, Store, StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]

INTERVAL = 180.0
RETRY = 5.0
AT_ONCE = 50  # objects that are looked at without a pause
OF_ADDRESSES = "ipallocator-repair-controller"
OF_PORTS = "portallocator-repair-controller"


class Repair:
    """``ready`` is set when the records of node ports have been looked at once."""

    def __init__(
        self, store: Store, reader: Reader, world: World, events: EventRecorder, allocator: ServiceAllocator
    ) -> None:
        self._store = store
        self._reader = reader
        self._world = world
        self._events = events
        self._allocator = allocator
        self._queue = WorkQueue(world, name=OF_ADDRESSES)
        self._row = table.by_name("services")
        self._looked = 0
        self._all = asyncio.Event()  # everything is to be looked at
        self.ready = asyncio.Event()

    async def run(self, tasks: Tasks) -> None:
        """Until cancelled."""
        await self._reader.synced.wait()
        # Subscribing brings everything that is there.
        self._reader.subscribe(SERVICE_CIDRS, self._cidr_changed)
        self._reader.subscribe(SERVICES, self._service_changed)
        self._reader.subscribe(IP_ADDRESSES, self._address_changed)
        tasks.spawn(work(self._queue, self._sync, workers=1, tasks=tasks), OF_ADDRESSES)
        tasks.spawn(self._sweeps(), "address sweeps")
        while True:
            try:
                await self._all_ports()
                self.ready.set()
            except StoreError as error:
                figures.PORT_REPAIRS_FAILED.inc()
                log.warning("the node ports of services could not be compared (%s); trying again", error)
            await self._world.clock.sleep(INTERVAL if self.ready.is_set() else RETRY)
            self._all.set()

    # -- what to look at -------------------------------------------------------------------------------------------

    async def _sweeps(self) -> None:
        """Queue everything whenever that is asked for, a little at a time: requests must not wait for it."""
        while True:
            await self._all.wait()
            self._all.clear()
            everything = [*self._reader.list(SERVICES), *self._reader.list(IP_ADDRESSES)]
            for number, obj in enumerate(everything):
                self._queue.add(_key_of(obj))
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _service_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        self._queue.add(_key_of(new if new is not None else old or {}))

    def _address_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        record = new or old or {}
        if new is not None:
            self._queue.add(record["metadata"]["name"])
        else:  # its service may still need it
            parent = (record.get("spec") or {}).get("parentRef") or {}
            self._queue.add(f"{parent.get('namespace', '')}/{parent.get('name', '')}")

    def _cidr_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._all.set()

    # -- cluster IPs -----------------------------------------------------------------------------------------------

    async def _sync(self, key: str) -> float | None:
        """Look at a service (``namespace/name``) or at an IPAddress (its name)."""
        self._looked += 1
        if self._looked % AT_ONCE == 0:
            await asyncio.sleep(0)
        namespace, slash, name = key.partition("/")
        if not slash:
            record = self._reader.get(IP_ADDRESSES, "", key)
            found = of_address(record, self._service, self._world.clock.now()) if record is not None else None
            if record is None or found is None:
                return None
            if found.action:
                await self._correct(found, record, None)
            return found.again
        service = self._service(namespace, name)
        if service is not None:
            for each in of_service(service, self._address, self._service, self._allocator.addresses.networks):
                await self._correct(each, service, self._address(each.value))
        return None

    async def _correct(self, found: Finding, about: Object, record: Object | None) -> None:
        """Carry a finding about a service or an IPAddress out; ``record`` is the IPAddress of a service."""
        key = self._allocator.addresses.key(found.value)
        if found.action == "create":
            value = self._allocator.addresses.record(found.value, about)
            guards = [Compare(key, _revision(record)), Compare(self._key(about), _revision(about))]
            done = (await self._store.txn(guards, [Put(key, value)])).succeeded
        elif found.action == "delete":
            done = (await self._store.txn([Compare(key, _revision(about))], [Delete(key)])).succeeded
        else:
            done = True
        # What was overtaken by another write comes again with it.
        if done:
            reason = found.event[0] if found.event is not None else ""
            figures.ADDRESS_REPAIRS.labels(figures.type_of(reason, found.action)).inc()
            self._tell(about, found, OF_ADDRESSES)

    def _address(self, ip: str) -> Object | None:
        return self._reader.get(IP_ADDRESSES, "", ip)

    def _service(self, namespace: str, name: str) -> Object | None:
        return self._reader.get(SERVICES, namespace, name)

    # -- node ports ------------------------------------------------------------------------------------------------

    async def _all_ports(self) -> None:
        """Compare all records of node ports with the services."""
        # Records first: a service created in between has a record that is not in the list, and a guard says so.
        kvs = (await self._store.range(ports.PREFIX.encode(), keys_only=True)).kvs
        recorded = {int(kv.key.decode().removeprefix(ports.PREFIX)): kv.mod_revision for kv in kvs}
        await self._reader.consistent()
        known = self._allocator.ports
        for service, found in of_ports(self._reader.list(SERVICES), recorded, known.first, known.last):
            await self._correct_port(service, found, recorded.get(int(found.value), 0))

    async def _correct_port(self, service: Object, found: Finding, revision: int) -> None:
        key = self._allocator.ports.key(int(found.value))
        done = True
        if found.action == "create":
            guards = [Compare(key, 0), Compare(self._key(service), _revision(service))]
            done = (await self._store.txn(guards, [Put(key, ports.record(service))])).succeeded
        elif found.action == "delete":
            done = (await self._store.txn([Compare(key, revision)], [Delete(key)])).succeeded
        if done:
            reason = found.event[0] if found.event is not None else ""
            figures.PORT_REPAIRS.labels(figures.type_of(reason, found.action)).inc()
        if done and service:
            self._tell(service, found, OF_PORTS)
        elif done:
            log.warning("node port %s was recorded, but no service holds it: corrected", found.value)

    # -- both ------------------------------------------------------------------------------------------------------

    def _tell(self, about: Object, found: Finding, component: str) -> None:
        if found.event is not None:
            reason, action, note = found.event
            log.warning("service allocation: %s", note)
            self._events.event(about, "Warning", reason, note, component=component, action=action)

    def _key(self, service: Object) -> bytes:
        metadata = service["metadata"]
        return keys.key(self._row, metadata.get("namespace", ""), metadata["name"])


def _revision(obj: Object | None) -> int:
    """The store's revision of a cached object; 0 where there is none."""
    return int(obj["metadata"].get("resourceVersion") or 0) if obj is not None else 0


def _key_of(obj: Object) -> str:
    """The queue's key of a service or an IPAddress."""
    metadata = obj["metadata"]
    return (
        f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])
    )
