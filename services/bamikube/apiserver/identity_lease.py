"""The Lease by which an API server says that it is there, and the end of those of servers that are gone.

::

    kube-system/apiserver-<hash of the host's name>
        labels   apiserver.kubernetes.io/identity: kube-apiserver, kubernetes.io/hostname: master
        spec     holderIdentity: <name>_<uuid of this start>, leaseDurationSeconds: 3600, renewTime: every 10 s

A server that is started again on its host takes its lease over: the holder changes, the name does not. Each server
removes what nobody has renewed for the lease's duration, once when it starts and every hour.

``kubectl -n kube-system get leases -l apiserver.kubernetes.io/identity=kube-apiserver`` lists the servers.

Source: KEP-1965 (kube-apiserver identity), the page "Leases".
"""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any, NoReturn

from bamikube.api import names, table
from bamikube.api.errors import ApiError
from bamikube.apiserver.bootstrap.loop import Writer
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.clock import parse_rfc3339, rfc3339_micro
from bamikube.kit.world import World
from bamikube.store.port import StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]

LEASES = ("coordination.k8s.io", "leases")
NAMESPACE = "kube-system"
LABEL = "apiserver.kubernetes.io/identity"
COMPONENT = "kube-apiserver"
HOSTNAME = "kubernetes.io/hostname"
DURATION = 3600  # seconds
RENEW = 10.0
COLLECT = 3600.0
_RETRY = 1.0


def lease_name(hostname: str) -> str:
    """``apiserver-`` and 26 characters: the same for every start on this host."""
    parts = (hostname.encode(), COMPONENT.encode())
    hashed = hashlib.sha256(b"".join(len(part).to_bytes(2) + part for part in parts)).digest()
    return "apiserver-" + base64.b32encode(hashed[:16]).decode().rstrip("=").lower()


def expired(lease: Object, now: float) -> bool:
    """Whether nobody renews it any more. One that does not say how long it holds never did."""
    spec = lease.get("spec") or {}
    renewed, duration = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    if not renewed or duration is None:
        return True
    return parse_rfc3339(renewed) + float(duration) < now


class IdentityLease:
    """``hostname`` is that of the host, as ``os.Hostname`` gives it to Kubernetes."""

    def __init__(self, reader: Reader, writer: Writer, world: World, hostname: str) -> None:
        self._reader = reader
        self._writer = writer
        self._world = world
        self._hostname = hostname
        self._name = lease_name(hostname)
        self._holder = f"{self._name}_{world.chance.uuid()}"
        self._taken = False  # by this start

    async def run(self) -> NoReturn:
        """Renew until cancelled."""
        while True:
            pause = RENEW
            try:
                await self.renew()
            except (ApiError, StoreError) as problem:
                log.warning("the lease %s of this server could not be renewed: %s", self._name, problem)
                pause = _RETRY
            await self._world.clock.sleep(pause)

    async def renew(self) -> None:
        """Write the lease once. Raises ApiError and StoreError."""
        row = table.by_name("leases.coordination.k8s.io")
        stored = self._reader.get(LEASES, NAMESPACE, self._name)
        try:
            if stored is None:
                await self._writer.create(row, self._renewed({"metadata": {}, "spec": {}}))
            else:
                await self._writer.update(row, self._renewed(stored))
        except ApiError as problem:
            # The cache is behind, or another server of this host renews it, too: the next round sees it.
            if problem.reason not in ("AlreadyExists", "Conflict", "NotFound"):
                raise
            await self._reader.consistent()
        else:
            self._taken = True

    def _renewed(self, lease: Object) -> Object:
        metadata, spec = lease["metadata"], {**(lease.get("spec") or {})}
        labels = {**(metadata.get("labels") or {}), LABEL: COMPONENT}
        if not names.is_label_value(self._hostname):
            labels[HOSTNAME] = self._hostname
        if not self._taken or not spec.get("holderIdentity"):
            spec |= {"holderIdentity": self._holder, "leaseDurationSeconds": DURATION}
        spec["renewTime"] = rfc3339_micro(self._world.clock.now())
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**metadata, "name": self._name, "namespace": NAMESPACE, "labels": labels},
            "spec": spec,
        }

    async def collect(self) -> NoReturn:
        """Remove the leases of servers that are gone, until cancelled."""
        while True:
            try:
                await self.remove_expired()
            except (ApiError, StoreError) as problem:
                log.warning("leases of API servers that are gone could not be removed: %s", problem)
            await self._world.clock.sleep(COLLECT)

    async def remove_expired(self) -> None:
        """One look at all of them. Raises ApiError and StoreError."""

        def stale() -> list[Object]:
            now = self._world.clock.now()
            return [
                lease
                for lease in self._reader.list(LEASES, NAMESPACE)
                if (lease["metadata"].get("labels") or {}).get(LABEL) == COMPONENT and expired(lease, now)
            ]

        if not stale() or not await self._reader.consistent():
            return
        for lease in stale():  # as the store has it
            metadata = lease["metadata"]
            log.info("the API server of the lease %s is gone", metadata["name"])
            try:
                await self._writer.delete(
                    table.by_name("leases.coordination.k8s.io"),
                    NAMESPACE,
                    metadata["name"],
                    uid=metadata.get("uid", ""),
                )
            except ApiError as problem:
                if problem.reason not in ("NotFound", "Conflict"):
                    raise
