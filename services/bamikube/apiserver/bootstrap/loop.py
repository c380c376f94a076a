"""Bringing the bootstrap objects into the cluster, and keeping collecting roles collected.

Every API server does this when it starts. Several may do it at once: creating what another has just created, or
updating what another has just updated, is not a failure but the wished-for state, reached by somebody else.

``ready`` is set once everything is there; the server's readiness waits for it, so that the first client finds its
roles. Afterwards the loop stays: whenever a ClusterRole changes, the ``rules`` of the collecting roles (admin, edit,
view, or a user's own with an ``aggregationRule``) are written anew. Authorization does not wait for that (it makes
the union itself); people who read the role, and controllers that check escalation, do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver.authz.rbac import CLUSTER_ROLES, aggregate
from bamikube.apiserver.bootstrap.objects import NAMESPACES, desired, reconciled
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World
from bamikube.store.port import StoreError

log = logging.getLogger(__name__)

AUTHENTICATION_CONFIG = "extension-apiserver-authentication"
_RETRY = 1.0  # seconds between attempts at what failed
_ATTEMPTS = 5  # at one object in one pass


class Writer(Protocol):
    """What the loops need of the registry: writes as the system itself, through admission."""

    async def create(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        """Raises ApiError (AlreadyExists) and StoreError."""

    async def update(
        self, resource: Resource, obj: dict[str, Any], *, subresource: str = ""
    ) -> dict[str, Any]:
        """Raises ApiError (Conflict) and StoreError."""

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str = "") -> bool:
        """Raises ApiError (NotFound; Conflict when the uid is another) and StoreError."""


class Bootstrap:
    """``authentication`` is the data of the ConfigMap that extension API servers read their trust from."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        world: World,
        *,
        authentication: dict[str, str] | None = None,
        optional: Sequence[Resource] = (),
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._world = world
        self._authentication = authentication or {}
        self._optional = optional
        self._roles_changed = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        await self._reader.synced.wait()
        while not await self._pass():
            await self._world.clock.sleep(_RETRY)
        self.ready.set()
        self._reader.subscribe(CLUSTER_ROLES, lambda _type, _old, _new: self._roles_changed.set())
        self._roles_changed.set()
        while True:
            await self._roles_changed.wait()
            self._roles_changed.clear()
            if not await self._aggregate():
                await self._world.clock.sleep(_RETRY)
                self._roles_changed.set()

    async def _pass(self) -> bool:
        """One try at everything; False when something is still missing."""
        complete = True
        wanted = desired(self._optional)
        if self._authentication:
            # After the namespaces (it lives in one), before anything that an extension server could be waiting for.
            wanted.insert(len(NAMESPACES), self._authentication_config())
        for obj in wanted:
            try:
                await self._ensure(obj)
            except ApiError as problem:
                complete = False
                metadata = obj["metadata"]
                log.warning("bootstrap: %s %s: %s", obj["kind"], metadata["name"], problem.message)
            except StoreError as problem:
                # What comes next would meet the same store: try everything again in a moment.
                log.warning("bootstrap: the store does not take writes: %s", problem)
                return False
        return complete

    async def _ensure(self, obj: dict[str, Any]) -> None:
        resource = table.by_kind(obj["apiVersion"], obj["kind"])
        if resource is None:
            raise ApiError(
                500, "InternalError", f"there is no resource for {obj['apiVersion']} {obj['kind']}"
            )
        metadata = obj["metadata"]
        for attempt in range(_ATTEMPTS):
            stored = self._reader.get(resource.key, metadata.get("namespace", ""), metadata["name"])
            try:
                if stored is None:
                    await self._writer.create(resource, obj)
                    return
                changed = self._merged(obj, stored)
                if changed is not None:
                    await self._writer.update(resource, changed)
                return
            except ApiError as problem:
                if problem.reason == "AlreadyExists" and obj["kind"] != "ConfigMap":
                    return  # another server was faster; its pass sees to the contents
                if problem.reason not in ("Conflict", "AlreadyExists") or attempt == _ATTEMPTS - 1:
                    raise
            await self._world.clock.sleep(0.05)  # let the cache see what the other one wrote

    def _merged(self, obj: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any] | None:
        if obj["kind"] == "ConfigMap":
            data = {**(stored.get("data") or {}), **obj["data"]}
            return None if data == stored.get("data") else {**stored, "data": data}
        return reconciled(obj, stored)

    def _authentication_config(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": AUTHENTICATION_CONFIG, "namespace": "kube-system"},
            "data": dict(self._authentication),
        }

    async def _aggregate(self) -> bool:
        resource = table.by_name("clusterroles.rbac.authorization.k8s.io")
        complete = True
        roles = self._reader.list(CLUSTER_ROLES)
        for role in roles:
            if not role.get("aggregationRule"):
                continue
            rules = [dict(rule) for rule in aggregate(role, roles)]
            if rules == (role.get("rules") or []):
                continue
            try:
                await self._writer.update(resource, {**role, "rules": rules})
            except (ApiError, StoreError) as problem:
                complete = False
                log.debug("aggregating %s: %s", role["metadata"]["name"], problem)
        return complete


def authentication_data(
    client_ca: str = "",
    front_proxy_ca: str = "",
    allowed_names: tuple[str, ...] = (),
    *,
    username_headers: tuple[str, ...] = ("X-Remote-User",),
    group_headers: tuple[str, ...] = ("X-Remote-Group",),
    extra_prefixes: tuple[str, ...] = ("X-Remote-Extra-",),
) -> dict[str, str]:
    """The contents of ``extension-apiserver-authentication``; certificates as PEM text."""

    data: dict[str, str] = {}
    if client_ca:
        data["client-ca-file"] = client_ca
    if front_proxy_ca:
        data["requestheader-client-ca-file"] = front_proxy_ca
        for key, values in (
            ("requestheader-allowed-names", allowed_names),
            ("requestheader-username-headers", username_headers),
            ("requestheader-group-headers", group_headers),
            ("requestheader-extra-headers-prefix", extra_prefixes),
        ):
            data[key] = orjson.dumps(list(values)).decode()
    return data
