"""EndpointSlices: the pods behind a Service in pieces of at most a hundred.

The backends are grouped by IP family and by the ports they resolve to (named ports may differ from pod to pod);
:mod:`bamikube.controllers.slices` packs the groups. Source: the EndpointSlice documentation and KEP-752.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.owners import controller_reference
from bamikube.controllers import endpoints_model, slice_writer
from bamikube.controllers.endpoints_model import Backend, Port
from bamikube.controllers.expectations import Expectations
from bamikube.controllers.shared import Controller, Shared, enqueue
from bamikube.controllers.slices import HEADLESS, MANAGED_BY, SERVICE_NAME, Group, Plan, pack, ports_key
from bamikube.controllers.triggertimes import TriggerTimes

Object = dict[str, Any]

MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


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


def labels_of(service: Object) -> dict[str, str]:
    labels = dict(service["metadata"].get("labels") or {})
    labels.pop(HEADLESS, None)
    labels |= {SERVICE_NAME: service["metadata"]["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return labels


def plan(
    service: Object,
    found: list[Backend],
    held: list[Object],
    zones: dict[str, str],
    moment: str | None = None,
) -> Plan:
    """What to write so that ``held`` (our slices of this service) hold ``found``. ``zones`` is by node name; what is
    written says that it changed at ``moment``."""
    groups: dict[Any, Group] = {}
    for backend in found:
        ports = _ports(backend.ports)
        key = (backend.family, ports_key(ports))
        group = groups.setdefault(key, Group(backend.family, ports))
        group.endpoints[backend.pod["metadata"]["uid"]] = endpoint(backend, zones)
    meta = service["metadata"]
    frame = {
        "generateName": f"{meta['name'][:57]}-",
        "namespace": meta["namespace"],
        "ownerReferences": [controller_reference(service)],
    }
    wanted = list(groups.values())
    # A service without any pod of a family keeps one empty slice, so that its readers know it is empty.
    there = {group.address_type for group in wanted}
    wanted += [Group(family, []) for family in endpoints_model.families(service) if family not in there]
    return pack(wanted, held, labels_of(service), None, frame, _uid, moment)


def _uid(held: Object) -> str:
    return str((held.get("targetRef") or {}).get("uid", ""))


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
        self._moments = TriggerTimes()
        self.services.on_change(enqueue(self))
        self.pods.on_change(self._pod_changed)
        self.slices.on_change(self._slice_changed)
        self.slices.add_index("service", _service_of)
        endpoints_model.add_indexes(self.services, self.pods)

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if endpoints_model.relevant(old, new):
            for pod in (old, new):
                if pod is not None:
                    for service in endpoints_model.services_of(pod, self.services):
                        self.queue.add(service)

    def _slice_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        for held in (old, new):
            if held is not None:
                for service in _service_of(held):
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
            self._moments.forget(key)
            return None
        if "deletionTimestamp" in service["metadata"]:
            return None
        if not self.expectations.met(key):
            return 1.0
        pods = endpoints_model.pods_of(service, self.pods)
        found = endpoints_model.backends(service, pods)
        zones = {}
        for backend in found:
            node = self.nodes.get(backend.pod["spec"].get("nodeName") or "")
            if node is not None:
                zones[node["metadata"]["name"]] = (node["metadata"].get("labels") or {}).get(ZONE, "")
        held = [
            one for one in self.slices.by_index("service", key) if "deletionTimestamp" not in one["metadata"]
        ]
        decided = plan(service, found, held, zones, self._moments.changed(key, service, pods))
        await slice_writer.write(self.client, self.expectations, key, decided)
        return None


def _service_of(held: Object) -> list[str]:
    labels = held["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return []
    return [f"{held['metadata']['namespace']}/{labels[SERVICE_NAME]}"]
