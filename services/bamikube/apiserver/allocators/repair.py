"""Compare the records of allocations with the services, once when a server starts, and put right what differs.

Record and service are written in one transaction, so a difference means that somebody wrote to the store without the
API server: a backup put back, a key deleted by hand. Every correction is guarded by what was read, so that it cannot
undo a write that happens meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import orjson

from bamikube.apiserver.allocators.services import (
    ALLOCATOR,
    IP_PREFIX,
    MANAGED_BY,
    PORT_PREFIX,
    ServiceAllocator,
    held,
    port_record,
)
from bamikube.store.port import Compare, Delete, KeyValue, Put, Store

log = logging.getLogger(__name__)

SERVICES_PREFIX = b"/registry/services/"


@dataclass(frozen=True, slots=True)
class Repair:
    """One correction: the record's key, what to do, and why."""

    key: bytes
    guards: tuple[Compare, ...]
    write: Put | Delete
    reason: str


def plan(
    services: list[KeyValue], records: list[KeyValue], allocator: ServiceAllocator
) -> tuple[list[Repair], list[str]]:
    """What to write, and what only a person can put right (two services with one address)."""
    holders: dict[bytes, KeyValue] = {}
    trouble: list[str] = []
    repairs: list[Repair] = []
    for stored in services:
        ips, ports = held(orjson.loads(stored.value))
        keys = [allocator.ips.key(ip) for ip in ips if allocator.ips.contains(ip)]
        keys += [allocator.ports.key(port) for port in ports if allocator.ports.contains(port)]
        for key in keys:
            if key in holders:
                trouble.append(
                    f"{_name(holders[key])} and {_name(stored)} both hold {key.decode().rsplit('/', 1)[-1]}: "
                    "delete and create one of them again"
                )
            holders.setdefault(key, stored)
    known = {record.key: record for record in records}
    for key, service in holders.items():
        if key not in known:
            obj = orjson.loads(service.value)
            value = (
                allocator.ip_record(key.decode().removeprefix(IP_PREFIX), obj)
                if key.startswith(IP_PREFIX.encode())
                else port_record(obj)
            )
            guards = (Compare(key, 0), Compare(service.key, service.mod_revision))
            repairs.append(
                Repair(key, guards, Put(key, value), f"{_name(service)} holds it without a record")
            )
    for key, record in known.items():
        if key not in holders and not _made_by_hand(record):
            repairs.append(
                Repair(key, (Compare(key, record.mod_revision),), Delete(key), "no service holds it")
            )
    return repairs, trouble


async def repair(store: Store, allocator: ServiceAllocator) -> list[Repair]:
    """Carry the plan out; returns what was corrected."""
    # Records first: a service created in between has a record that is not in the list and is left alone.
    records = [kv for prefix in (IP_PREFIX, PORT_PREFIX) for kv in (await store.range(prefix.encode())).kvs]
    services = (await store.range(SERVICES_PREFIX)).kvs
    repairs, trouble = plan(services, records, allocator)
    for line in trouble:
        log.error("service allocation: %s", line)
    done = []
    for one in repairs:
        if (await store.txn(list(one.guards), [one.write])).succeeded:
            log.warning("service allocation: corrected %s: %s", one.key.decode(), one.reason)
            done.append(one)
    return done


def _made_by_hand(record: KeyValue) -> bool:
    """An IPAddress that is not the allocator's: whoever made it takes it away."""
    if not record.key.startswith(IP_PREFIX.encode()):
        return False
    labels = orjson.loads(record.value)["metadata"].get("labels") or {}
    return bool(labels.get(MANAGED_BY) != ALLOCATOR)


def _name(service: KeyValue) -> str:
    return service.key.decode().removeprefix(SERVICES_PREFIX.decode())
