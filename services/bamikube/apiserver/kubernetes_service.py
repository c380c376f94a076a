"""The Service ``default/kubernetes``: how pods find the API.

Each running API server keeps a key with its address in the store, under a lease. Whoever is alive writes the
addresses of all such keys into the service's Endpoints and EndpointSlice; the key of a server that died vanishes
with its lease, and the next round of any other takes its address out. The lowest address of the service range is the
service's own.

Worked example, two servers, 15 s leases renewed every 10 s::

    /registry/bami/masterleases/10.99.0.10 -> {...}      endpoints: 10.99.0.10, 10.99.0.11
    /registry/bami/masterleases/10.99.0.11 -> {...}
    10.99.0.11 is killed: its key is gone 15 s later at the latest, endpoints: 10.99.0.10

Source: Kubernetes' lease endpoint reconciler (``--endpoint-reconciler-type=lease``), behaviour.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Sequence
from typing import Any

import orjson

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.apiserver.bootstrap.loop import Writer
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World
from bamikube.store.port import Delete, Put, Store, StoreError

log = logging.getLogger(__name__)

NAMESPACE, NAME = "default", "kubernetes"
PREFIX = "/registry/bami/masterleases/"
LEASE_SECONDS = 15
INTERVAL = 10.0
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
SERVICE_NAME = "kubernetes.io/service-name"


class KubernetesService:
    """``address`` and ``port`` are those this server is reached at (``--advertise-address``, ``--secure-port``)."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        writer: Writer,
        world: World,
        *,
        address: str,
        port: int = 6443,
        service_cidr: str = "10.96.0.0/12",
    ) -> None:
        self._store = store
        self._reader = reader
        self._writer = writer
        self._world = world
        self._address = address
        self._port = port
        self._cluster_ip = str(ipaddress.ip_network(service_cidr).network_address + 1)
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; then the server takes its own address out."""
        await self._reader.synced.wait()
        try:
            while True:
                try:
                    await self.reconcile()
                    self.ready.set()
                except (ApiError, StoreError) as problem:
                    log.warning("the kubernetes service could not be brought up to date: %s", problem)
                await self._world.clock.sleep(INTERVAL if self.ready.is_set() else 0.5)
        finally:
            await asyncio.shield(self._leave())

    async def reconcile(self) -> None:
        """Renew the own lease and write what differs."""
        lease = await self._store.grant(LEASE_SECONDS)
        value = orjson.dumps({"address": self._address, "port": self._port})
        await self._store.txn([], [Put(self._key(), value, lease)])
        await self._ensure(service(self._cluster_ip, self._port))
        await self._publish()

    async def _publish(self) -> None:
        found = await self._store.range(PREFIX.encode())
        addresses = sorted(
            (kv.key.decode().removeprefix(PREFIX) for kv in found.kvs), key=ipaddress.ip_address
        )
        if addresses:
            await self._ensure(endpoints(addresses, self._port))
            await self._ensure(endpoint_slice(addresses, self._port))

    async def _leave(self) -> None:
        try:
            await self._store.txn([], [Delete(self._key())])
            await self._publish()
        except (ApiError, StoreError) as problem:
            log.info("the kubernetes service keeps this server's address until its lease ends: %s", problem)

    async def _ensure(self, wanted: dict[str, Any]) -> None:
        resource = table.by_kind(wanted["apiVersion"], wanted["kind"])
        if resource is None:
            raise ApiError(
                500, "InternalError", f"there is no resource for {wanted['apiVersion']} {wanted['kind']}"
            )
        stored = self._reader.get(resource.key, NAMESPACE, NAME)
        try:
            if stored is None:
                await self._writer.create(resource, wanted)
            elif (changed := merged(wanted, stored)) is not None:
                await self._writer.update(resource, changed)
        except ApiError as problem:
            if problem.reason not in ("AlreadyExists", "Conflict"):
                raise
            log.debug("another API server has just written %s: %s", wanted["kind"], problem.message)

    def _key(self) -> bytes:
        return f"{PREFIX}{self._address}".encode()


def merged(wanted: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any] | None:
    """``stored`` with the fields of ``wanted``, None when nothing differs. Of a service's spec only type and ports are
    kept right (its addresses and families are what they became), everything else is replaced."""
    result = dict(stored)
    result["metadata"] = {
        **stored["metadata"],
        "labels": {**(stored["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]},
    }
    for field, value in wanted.items():
        if field == "spec":
            result["spec"] = {**(stored.get("spec") or {}), "type": value["type"], "ports": value["ports"]}
        elif field not in ("apiVersion", "kind", "metadata"):
            result[field] = value
    return None if result == stored else result


def service(cluster_ip: str, port: int) -> dict[str, Any]:
    """The service object."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ipFamilies": ["IPv6" if ":" in cluster_ip else "IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }


def endpoints(addresses: Sequence[str], port: int) -> dict[str, Any]:
    """Its Endpoints, kept out of mirroring because the slice is written here too."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [
            {
                "addresses": [{"ip": address} for address in addresses],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
        ],
    }


def endpoint_slice(addresses: Sequence[str], port: int) -> dict[str, Any]:
    """Its EndpointSlice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {SERVICE_NAME: NAME}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
