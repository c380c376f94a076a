"""What quotas count, counted anew: when a quota is new or has new limits, and every five minutes in any case.

The API server writes down what is used in the transaction that uses it, so there is normally nothing to correct; this
controller gives a new quota its first status, and finds what was written past the API server.

It never counts wrongly beside a busy API server: the quota is read first, the objects after it, and the status is
written only if the quota is still at the revision that was read. Every write that uses or frees anything moves that
revision, so what was counted is what is there.

Source: Kubernetes' "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bamikube.api import quota, table
from bamikube.api.errors import ApiError
from bamikube.api.quantity import QuantityError
from bamikube.api.times import seconds
from bamikube.client.client import path_of
from bamikube.client.informer import split_key
from bamikube.controllers.shared import Controller, Shared

Object = dict[str, Any]

RESYNC = 300.0  # seconds
# A server that has not heard of a quota yet does not count against it: a young quota is looked at sooner.
YOUNG = 30.0  # seconds
SOON = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The quota as it shall be written (None: it is right as it is), and why."""

    obj: Object | None
    reason: str


def plan(found: Object, objects: Mapping[quota.Key, list[Object]]) -> Plan:
    """What to do with a quota, given all objects of the kinds it counts."""
    if "deletionTimestamp" in found["metadata"]:
        return Plan(None, "it is being deleted")
    try:
        used = quota.recount(found, lambda kind: objects.get(kind, []))
    except QuantityError as error:
        return Plan(None, f"an amount cannot be read: {error}")
    wanted = quota.settled(found, used)
    if not quota.is_settled(found):
        return Plan(wanted, "its limits have not been counted yet")
    if (found.get("status") or {}).get("used") == used:
        return Plan(None, "it is right")
    return Plan(wanted, "something was missed")


class ResourceQuotaController(Controller):
    name = "resourcequota-controller"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.quotas = shared.informers.of("resourcequotas")
        self.quotas.on_change(self._changed)

    def _changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or not quota.is_settled(new)):
            self.queue.add(key)

    async def sync(self, key: str) -> float | None:
        namespace, name = split_key(key)
        # A list of one: controllers may list everything, and get little.
        listed = await self.client.list("resourcequotas", namespace, fields=f"metadata.name={name}")
        if not listed.get("items"):
            return None
        found = {"apiVersion": "v1", "kind": "ResourceQuota", **listed["items"][0]}
        objects = {kind: await self._list(kind, namespace) for kind in quota.counted_kinds(found)}
        decided = plan(found, objects)
        if decided.obj is not None:
            await self.client.update("resourcequotas", decided.obj, "status")
        age = self.world.clock.now() - seconds(found["metadata"].get("creationTimestamp"))
        return SOON if age < YOUNG else RESYNC

    async def _list(self, kind: quota.Key, namespace: str) -> list[Object]:
        """All objects of a kind, as of now; none when nobody serves the kind."""
        group, plural = kind
        try:
            path = path_of(table.by_name(f"{plural}.{group}" if group else plural), namespace)
        except (KeyError, ValueError):
            if not group:
                return []
            path = await self._custom_path(group, plural, namespace)
        try:
            items: list[Object] = (await self.client.call("GET", path)).get("items") or [] if path else []
        except ApiError as error:
            if error.code != 404:
                raise
            return []
        return items

    async def _custom_path(self, group: str, plural: str, namespace: str) -> str:
        """Where custom objects are listed; "" when the group is unknown."""
        try:
            found = await self.client.call("GET", f"/apis/{group}")
        except ApiError as error:
            if error.code != 404:
                raise
            return ""
        version = (found.get("preferredVersion") or {}).get("groupVersion", "")
        return f"/apis/{version}/namespaces/{namespace}/{plural}" if version else ""
