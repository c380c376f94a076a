"""Endpoints written by hand, mirrored into EndpointSlices.

A Service without a selector gets its backends from whoever writes its Endpoints object. Everything that steers traffic
reads EndpointSlices, so this controller copies such Endpoints into slices (``managed-by:
endpointslicemirroring-controller.k8s.io``), owned by the Endpoints. It leaves alone what carries the label
``endpointslice.kubernetes.io/skip-mirror``, what another process uses to elect its leader, and every Service with a
selector. Source: "EndpointSlice mirroring" in the Kubernetes documentation, KEP-752.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.owners import controller_reference
from bamikube.controllers import slice_writer
from bamikube.controllers.expectations import Expectations
from bamikube.controllers.shared import Controller, Shared, enqueue
from bamikube.controllers.slices import HEADLESS, MANAGED_BY, SERVICE_NAME, Group, Plan, pack, ports_key

Object = dict[str, Any]

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
# Annotations that say something about the Endpoints object alone.
_NOT_MIRRORED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
}

# Addresses of one subset that are mirrored; what is beyond is left out.
MAX_PER_SUBSET = 1000


def wants_mirror(service: Object | None, endpoints: Object | None) -> bool:
    """Whether these Endpoints stand for themselves and have a Service to stand behind."""
    if service is None or endpoints is None or (service.get("spec") or {}).get("selector"):
        return False
    meta = endpoints["metadata"]
    return (
        "deletionTimestamp" not in meta
        and (meta.get("labels") or {}).get(SKIP_MIRROR) != "true"
        and LEADER not in (meta.get("annotations") or {})
    )


def _endpoint(address: Object, ready: bool) -> Object:
    result: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            result[name] = address[name]
    return result


def _address_type(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def plan(service: Object | None, endpoints: Object | None, held: list[Object]) -> Plan:
    """What to write so that ``held`` (our slices of this name) mirror ``endpoints``."""
    if service is None or endpoints is None or not wants_mirror(service, endpoints):
        return Plan(delete=list(held))
    groups: dict[Any, Group] = {}
    for subset in endpoints.get("subsets") or []:
        ports = [
            {"name": port.get("name", "")}
            | {key: port[key] for key in ("port", "protocol", "appProtocol") if key in port}
            for port in subset.get("ports") or []
        ]
        count = 0
        for kind, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(kind) or []:
                count += 1
                if count > MAX_PER_SUBSET:
                    break
                type = _address_type(address["ip"])
                group = groups.setdefault((type, ports_key(ports)), Group(type, ports))
                # The same address twice: ready wins, as it does for readers of Endpoints.
                group.endpoints.setdefault(address["ip"], _endpoint(address, ready))
    meta = endpoints["metadata"]
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HEADLESS}
    labels |= {SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    annotations = {
        key: value for key, value in (meta.get("annotations") or {}).items() if key not in _NOT_MIRRORED
    }
    frame = {
        "generateName": f"{meta['name'][:57]}-",
        "namespace": meta["namespace"],
        "ownerReferences": [controller_reference(endpoints)],
    }
    return pack(list(groups.values()), held, labels, annotations, frame, _address)


def _address(held: Object) -> str:
    return str(next(iter(held.get("addresses") or []), ""))


class EndpointSliceMirroringController(Controller):
    """Follows Endpoints, their Services and the slices it has made."""

    name = "endpointslicemirroring-controller"
    workers = 2

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.services = shared.informers.of("services")
        self.endpoints = shared.informers.of("endpoints")
        self.slices = shared.informers.of("endpointslices.discovery.k8s.io")
        self.expectations = Expectations(self.slices, shared.world.clock)
        self.services.on_change(enqueue(self))
        self.endpoints.on_change(enqueue(self))
        self.slices.on_change(self._slice_changed)
        self.slices.add_index("mirrored", _service_of)

    def _slice_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        for held in (old, new):
            if held is not None:
                for service in _service_of(held):
                    self.queue.add(service)

    async def sync(self, key: str) -> float | None:
        for informer in (self.services, self.endpoints, self.slices):
            await informer.synced.wait()
        held = [
            one for one in self.slices.by_index("mirrored", key) if "deletionTimestamp" not in one["metadata"]
        ]
        service, endpoints = self.services.get(key), self.endpoints.get(key)
        if not held and not wants_mirror(service, endpoints):
            self.expectations.forget(key)
            return None
        if not self.expectations.met(key):
            return 1.0
        await slice_writer.write(self.client, self.expectations, key, plan(service, endpoints, held))
        return None


def _service_of(held: Object) -> list[str]:
    labels = held["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return []
    return [f"{held['metadata']['namespace']}/{labels[SERVICE_NAME]}"]
