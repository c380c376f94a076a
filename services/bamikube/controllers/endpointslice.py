"""EndpointSlices: the pods behind a Service in pieces of at most a hundred.

``plan`` groups the backends by the ports they resolve to (named ports may differ from pod to pod), keeps every
endpoint in the slice it is in, fills what has room and makes or drops slices for the rest, so that one pod's change
rewrites one slice. Source: the EndpointSlice documentation and KEP-752.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.owners import controller_reference
from bamikube.client.informer import split_key
from bamikube.controllers import endpoints_model
from bamikube.controllers.endpoints_model import Backend, Port
from bamikube.controllers.expectations import Expectations
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
MAX_ENDPOINTS = 100


@dataclass(slots=True)
class Plan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def endpoint(backend: Backend, zones: dict[str, str]) -> Object:
    pod = backend.pod
    node = pod["spec"].get("nodeName")
    result: Object = {
        "addresses": [backend.address],
        "conditions": {
            "ready": backend.ready,
            "serving": backend.serving,
            "terminating": backend.terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }
    if backend.hostname:
        result["hostname"] = backend.hostname
    if node:
        result["nodeName"] = node
        if zones.get(node):
            result["zone"] = zones[node]
    return result


def _ports(ports: tuple[Port, ...]) -> list[Object]:
    result = []
    for name, protocol, number, application in ports:
        port: Object = {"name": name, "port": number, "protocol": protocol}
        if application:
            port["appProtocol"] = application
        result.append(port)
    return result


def _port_key(ports: list[Object]) -> tuple[Any, ...]:
    return tuple(
        sorted(
            (p.get("name") or "", p.get("protocol", "TCP"), p.get("port") or 0, p.get("appProtocol") or "")
            for p in ports
        )
    )


def labels_of(service: Object) -> dict[str, str]:
    labels = dict(service["metadata"].get("labels") or {})
    labels.pop(HEADLESS, None)
    labels |= {SERVICE_NAME: service["metadata"]["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return labels


def plan(service: Object, found: list[Backend], slices: list[Object], zones: dict[str, str]) -> Plan:
    """What to write so that ``slices`` (ours, of this service) hold ``found``."""
    result = Plan()
    labels = labels_of(service)
    groups: dict[tuple[Any, ...], tuple[list[Object], dict[str, Object]]] = {}
    for backend in found:
        ports = _ports(backend.ports)
        groups.setdefault(_port_key(ports), (ports, {}))[1][backend.pod["metadata"]["uid"]] = endpoint(
            backend, zones
        )
    usable: dict[tuple[Any, ...], list[Object]] = {}
    for held in slices:
        key = _port_key(held.get("ports") or [])
        if held.get("addressType") == "IPv4" and key in groups:
            usable.setdefault(key, []).append(held)
        else:
            result.delete.append(held)
    if not groups:
        # A service without any pod keeps one empty slice, so that its readers know it is empty.
        empty = result.delete.pop(0) if result.delete else None
        if empty is None:
            result.create.append(_slice(service, labels, [], []))
        elif empty.get("endpoints") or empty.get("ports") or empty["metadata"].get("labels") != labels:
            result.update.append(_with(empty, labels, [], []))
        return result
    for key, (ports, wanted) in groups.items():
        left = dict(wanted)
        kept: list[tuple[Object, list[Object]]] = []
        for held in usable.get(key, []):
            mine = []
            for old in held.get("endpoints") or []:
                new = left.pop((old.get("targetRef") or {}).get("uid", ""), None)
                if new is not None:
                    mine.append(new)
            kept.append((held, mine))
        rest = list(left.values())
        for _, mine in sorted(kept, key=lambda entry: -len(entry[1])):
            room = MAX_ENDPOINTS - len(mine)
            mine.extend(rest[:room])
            rest = rest[room:]
        for held, mine in kept:
            if not mine and wanted:
                result.delete.append(held)
            elif mine != (held.get("endpoints") or []) or held["metadata"].get("labels") != labels:
                result.update.append(_with(held, labels, ports, mine))
        while rest:
            result.create.append(_slice(service, labels, ports, rest[:MAX_ENDPOINTS]))
            rest = rest[MAX_ENDPOINTS:]
    return result


def _slice(service: Object, labels: dict[str, str], ports: list[Object], endpoints: list[Object]) -> Object:
    meta = service["metadata"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name'][:57]}-",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [controller_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def _with(held: Object, labels: dict[str, str], ports: list[Object], endpoints: list[Object]) -> Object:
    return {
        **held,
        "metadata": {**held["metadata"], "labels": labels},
        "endpoints": endpoints,
        "ports": ports,
    }


class EndpointSliceController(Controller):
    name = "endpointslice-controller"
    workers = 5

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.services = shared.informers.of("services")
        self.pods = shared.informers.of("pods")
        self.slices = shared.informers.of("endpointslices.discovery.k8s.io")
        self.nodes = shared.informers.of("nodes")
        self.expectations = Expectations(self.slices, shared.world.clock)
        self.services.on_change(enqueue(self))
        self.pods.on_change(self._pod_changed)
        self.slices.on_change(self._slice_changed)
        self.slices.add_index("service", _service_of)
        self.pods.add_index("slice-namespace", lambda pod: [pod["metadata"]["namespace"]])

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if endpoints_model.relevant(old, new):
            for pod in (old, new):
                if pod is not None:
                    for service in endpoints_model.services_of(pod, self.services.items()):
                        self.queue.add(service)

    def _slice_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        for held in (old, new):
            if held is not None:
                for service in _service_of(held):
                    if new is not None:
                        self.expectations.seen(service, key)
                    self.queue.add(service)

    async def sync(self, key: str) -> float | None:
        for informer in (self.pods, self.slices, self.nodes, self.services):
            await informer.synced.wait()
        service = self.services.get(key)
        if (
            service is None
            or not service["spec"].get("selector")
            or service["spec"].get("type") == "ExternalName"
        ):
            self.expectations.forget(key)
            return None
        if "deletionTimestamp" in service["metadata"]:
            return None
        if not self.expectations.met(key):
            return 1.0
        namespace = split_key(key)[0]
        found = endpoints_model.backends(service, self.pods.by_index("slice-namespace", namespace))
        zones = {
            node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(
                "topology.kubernetes.io/zone", ""
            )
            for node in self.nodes.items()
        }
        decision = plan(service, found, self.slices.by_index("service", key), zones)
        resource = "endpointslices.discovery.k8s.io"
        for held in decision.update:
            await self.client.update(resource, held)
        for body in decision.create:
            try:
                made = await self.client.create(resource, body)
            except ApiError as error:
                if error.code == 403 and "terminat" in error.message:
                    return None
                raise
            self.expectations.created(key, f"{namespace}/{made['metadata']['name']}")
        for held in decision.delete:
            try:
                await self.client.delete(
                    resource, held["metadata"]["name"], namespace, uid=held["metadata"]["uid"]
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        return None


def _service_of(held: Object) -> list[str]:
    labels = held["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return []
    return [f"{held['metadata']['namespace']}/{labels[SERVICE_NAME]}"]
