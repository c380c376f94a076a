"""Endpoints: the older, one-object form of what stands behind a Service, still read by many clients."""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import ApiError
from bamikube.controllers import endpoints_model
from bamikube.controllers.endpoints_model import Backend
from bamikube.controllers.shared import Controller, Shared, enqueue, namespace_is_going
from bamikube.controllers.triggertimes import TriggerTimes, annotated

Object = dict[str, Any]

# Above this many addresses Kubernetes cuts the list and says so in an annotation.
MAX_ADDRESSES = 1000
HEADLESS = "service.kubernetes.io/headless"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_KINDS = ("addresses", "notReadyAddresses")
MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def subsets(service: Object, found: list[Backend]) -> list[Object]:
    """The backends of the service's first family grouped by the ports they serve, each group sorted by address.

    A pod that serves none of the Service's ports is left out; a headless Service may have no ports at all.
    """
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    groups: dict[tuple[endpoints_model.Port, ...], Object] = {}
    family = endpoints_model.families(service)[0]
    for backend in found:
        if backend.family != family or (backend.terminating and not publish):
            continue
        if not backend.ports and (service["spec"].get("ports") or not is_headless(service)):
            continue
        pod = backend.pod
        address: Object = {"ip": backend.address}
        if backend.hostname:
            address["hostname"] = backend.hostname
        if pod["spec"].get("nodeName"):
            address["nodeName"] = pod["spec"]["nodeName"]
        address["targetRef"] = {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        }
        group = groups.setdefault(backend.ports, {})
        group.setdefault("addresses" if backend.ready else "notReadyAddresses", []).append(address)
    result = []
    for ports, group in sorted(groups.items()):
        for name in ("addresses", "notReadyAddresses"):
            if name in group:
                group[name] = sorted(group[name], key=lambda address: str(address["ip"]))
        if ports:
            group["ports"] = [
                ({"name": name} if name else {})
                | {"port": number, "protocol": protocol}
                | ({"appProtocol": application} if application else {})
                for name, protocol, number, application in ports
            ]
        result.append(group)
    return result


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def cut(groups: list[Object]) -> tuple[list[Object], bool]:
    """At most a thousand addresses, ready ones first, and whether any had to go."""
    total = sum(len(group.get(name) or []) for group in groups for name in _KINDS)
    if total <= MAX_ADDRESSES:
        return groups, False
    left = MAX_ADDRESSES
    result = [dict(group) for group in groups]
    for name in _KINDS:
        for group in result:
            kept = (group.pop(name, None) or [])[:left]
            left -= len(kept)
            if kept:
                group[name] = kept
    return [group for group in result if any(name in group for name in _KINDS)], True


def plan(service: Object, found: list[Backend], current: Object | None, moment: str = "") -> Object | None:
    """The Endpoints object to write, or None when ``current`` says it already. What is written says that it changed at
    ``moment``."""
    labels = dict(service["metadata"].get("labels") or {}) | {MANAGED_BY: "endpoint-controller"}
    labels.pop(HEADLESS, None)
    if is_headless(service):
        labels[HEADLESS] = ""
    wanted, truncated = cut(subsets(service, found))
    over = {OVER_CAPACITY: "truncated"} if truncated else {}
    if current is not None:
        meta = current["metadata"]
        has = meta.get("annotations") or {}
        annotations = {key: value for key, value in has.items() if key != OVER_CAPACITY} | over
        if (
            (current.get("subsets") or []) == wanted
            and (meta.get("labels") or {}) == labels
            and has == annotations
        ):
            return None
        meta = {**meta, "labels": labels, "annotations": annotated(annotations, moment)}
        return {**current, "metadata": meta, "subsets": wanted}
    meta = {
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "labels": labels,
    }
    if over or moment:
        meta["annotations"] = annotated(over, moment)
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": wanted}


class EndpointsController(Controller):
    name = "endpoint-controller"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.services = shared.informers.of("services")
        self.pods = shared.informers.of("pods")
        self.endpoints = shared.informers.of("endpoints")
        self.services.on_change(self._service_changed)
        self.endpoints.on_change(enqueue(self))
        self.pods.on_change(self._pod_changed)
        endpoints_model.add_indexes(self.services, self.pods)
        self._moments = TriggerTimes()
        self._deleted: set[str] = set()  # services we have seen go

    def _service_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._deleted.add(key)
        else:
            self._deleted.discard(key)
        self.queue.add(key)

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if endpoints_model.relevant(old, new):
            for pod in (old, new):
                if pod is not None:
                    for service in endpoints_model.services_of(pod, self.services):
                        self.queue.add(service)

    async def sync(self, key: str) -> float | None:
        for informer in (self.services, self.pods, self.endpoints):
            await informer.synced.wait()
        service = self.services.get(key)
        current = self.endpoints.get(key)
        if service is None:
            self._moments.forget(key)
            # Endpoints carry no owner reference: they go with the service of their name. Those that somebody wrote
            # by hand may be there before their service is, so they go only with one that we have seen.
            ours = current is not None and (current["metadata"].get("labels") or {}).get(MANAGED_BY)
            if current is not None and (ours or key in self._deleted):
                await self._delete(current)
            self._deleted.discard(key)
            return None
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return None
        if "deletionTimestamp" in service["metadata"]:
            return None
        pods = endpoints_model.pods_of(service, self.pods)
        found = endpoints_model.backends(service, pods)
        wanted = plan(service, found, current, self._moments.changed(key, service, pods))
        if wanted is None:
            return None
        try:
            if current is None:
                await self.client.create("endpoints", wanted)
            else:
                await self.client.update("endpoints", wanted)
        except ApiError as error:
            if namespace_is_going(error):
                return None
            raise
        return None

    async def _delete(self, current: Object) -> None:
        meta = current["metadata"]
        try:
            await self.client.delete("endpoints", meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
