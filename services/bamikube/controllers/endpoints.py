"""Endpoints: the older, one-object form of what stands behind a Service, still read by many clients."""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.informer import split_key
from bamikube.controllers import endpoints_model
from bamikube.controllers.endpoints_model import Backend
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]

# Above this many addresses Kubernetes cuts the list and says so in an annotation.
MAX_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def subsets(found: list[Backend]) -> list[Object]:
    """The backends grouped by the ports they serve, each group sorted by address."""
    groups: dict[tuple[endpoints_model.Port, ...], Object] = {}
    for backend in found:
        if backend.terminating or (not backend.ports and not backend.ready):
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
                group[name] = sorted(group[name], key=lambda address: str(address["ip"]))[:MAX_ADDRESSES]
        if ports:
            group["ports"] = [
                ({"name": name} if name else {})
                | {"port": number, "protocol": protocol}
                | ({"appProtocol": application} if application else {})
                for name, protocol, number, application in ports
            ]
        result.append(group)
    return result


def plan(service: Object, found: list[Backend], current: Object | None) -> Object | None:
    """The Endpoints object to write, or None when ``current`` says it already."""
    labels = dict(service["metadata"].get("labels") or {}) | {MANAGED_BY: "endpoint-controller"}
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    wanted = subsets(found)
    if current is not None:
        meta = current["metadata"]
        if (current.get("subsets") or []) == wanted and (meta.get("labels") or {}) == labels:
            return None
        return {**current, "metadata": {**meta, "labels": labels}, "subsets": wanted}
    meta = {
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "labels": labels,
    }
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": wanted}


class EndpointsController(Controller):
    name = "endpoint-controller"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.services = shared.informers.of("services")
        self.pods = shared.informers.of("pods")
        self.endpoints = shared.informers.of("endpoints")
        self.services.on_change(enqueue(self))
        self.endpoints.on_change(enqueue(self))
        self.pods.on_change(self._pod_changed)
        self.pods.add_index("endpoints-namespace", lambda pod: [pod["metadata"]["namespace"]])

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if endpoints_model.relevant(old, new):
            for pod in (old, new):
                if pod is not None:
                    for service in endpoints_model.services_of(pod, self.services.items()):
                        self.queue.add(service)

    async def sync(self, key: str) -> float | None:
        for informer in (self.services, self.pods, self.endpoints):
            await informer.synced.wait()
        service = self.services.get(key)
        current = self.endpoints.get(key)
        namespace, name = split_key(key)
        if service is None:
            # Endpoints carry no owner reference: they go with the service of their name, unless someone else's.
            if current is not None and (current["metadata"].get("labels") or {}).get(MANAGED_BY):
                await self._delete(name, namespace)
            return None
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return None
        found = endpoints_model.backends(service, self.pods.by_index("endpoints-namespace", namespace))
        wanted = plan(service, found, current)
        if wanted is None:
            return None
        try:
            if current is None:
                await self.client.create("endpoints", wanted)
            else:
                await self.client.update("endpoints", wanted)
        except ApiError as error:
            if error.code == 403 and "terminat" in error.message:
                return None
            raise
        return None

    async def _delete(self, name: str, namespace: str) -> None:
        try:
            await self.client.delete("endpoints", name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
