"""Which pods stand behind a Service, and on which ports: the part Endpoints and EndpointSlices decide alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api.predicates import pods as pod_state
from bamikube.client.informer import Informer

Object = dict[str, Any]
Port = tuple[str, str, int, str]  # name, protocol, number, application protocol


@dataclass(frozen=True, slots=True)
class Backend:
    """One pod behind a Service. ``ports`` is what the Service's ports resolve to on this pod."""

    pod: Object
    address: str
    ports: tuple[Port, ...]
    ready: bool
    serving: bool
    terminating: bool
    hostname: str

    @property
    def family(self) -> str:
        return family_of(self.address)


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def families(service: Object) -> list[str]:
    """The IP families of a service, the first one first."""
    spec = service["spec"]
    return spec.get("ipFamilies") or [family_of(spec.get("clusterIP") or "")]


def target_port(pod: Object, port: Object) -> int | None:
    """The number a service port's ``targetPort`` stands for on a pod; None when the pod has no such named port."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    if isinstance(target, str) and target.isdigit():
        return int(target)
    spec = pod["spec"]
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        for declared in container.get("ports") or []:
            if declared.get("name") == target and declared.get("protocol", "TCP") == port.get(
                "protocol", "TCP"
            ):
                return int(declared["containerPort"])
    return None


def selects(service: Object, pod: Object) -> bool:
    wanted = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def address_of(pod: Object, family: str = "IPv4") -> str:
    """The pod's address of a family, or "" while it has none."""
    status = pod.get("status") or {}
    found = [status.get("podIP") or "", *(entry.get("ip") or "" for entry in status.get("podIPs") or [])]
    return next((str(ip) for ip in found if ip and family_of(ip) == family), "")


def backends(service: Object, pods: list[Object]) -> list[Backend]:
    """The pods behind ``service`` that have an address, in the order of their names: once for each family."""
    return [one for family in families(service) for one in _backends(service, pods, family)]


def _backends(service: Object, pods: list[Object], family: str) -> list[Backend]:
    result = []
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    chosen = [pod for pod in pods if selects(service, pod) and not pod_state.is_terminal(pod)]
    for pod in sorted(chosen, key=lambda pod: str(pod["metadata"]["name"])):
        address = address_of(pod, family)
        if not address:
            continue
        ports = []
        for port in service["spec"].get("ports") or []:
            number = target_port(pod, port)
            if number is not None:
                ports.append(
                    (port.get("name", ""), port.get("protocol", "TCP"), number, port.get("appProtocol", ""))
                )
        serving = pod_state.is_ready(pod)
        terminating = pod_state.is_terminating(pod)
        spec = pod["spec"]
        named = spec.get("hostname") if spec.get("subdomain") == service["metadata"]["name"] else ""
        ready = publish or (serving and not terminating)
        result.append(Backend(pod, address, tuple(ports), ready, serving, terminating, named or ""))
    return result


def _selected_by(obj: Object) -> list[tuple[str, str, str]]:
    """One label that whoever is selected must have: the index key of a service."""
    wanted = (obj.get("spec") or {}).get("selector") or {}
    return [(obj["metadata"]["namespace"], *pair) for pair in sorted(wanted.items())[:1]]


def _labelled(obj: Object) -> list[tuple[str, str, str]]:
    labels = obj["metadata"].get("labels") or {}
    return [(obj["metadata"]["namespace"], *pair) for pair in labels.items()]


def add_indexes(services: Informer, pods: Informer) -> None:
    """Make a service's pods and a pod's services findable by label. Doing it twice is harmless."""
    services.add_index("selector", _selected_by)
    pods.add_index("label", _labelled)


def services_of(pod: Object, services: Informer) -> list[str]:
    """Keys of the services (of the pod's namespace) that select the pod."""
    namespace = pod["metadata"]["namespace"]
    return [
        f"{namespace}/{service['metadata']['name']}"
        for label in _labelled(pod)
        for service in services.by_index("selector", label)
        if selects(service, pod)
    ]


def pods_of(service: Object, pods: Informer) -> list[Object]:
    """The pods that ``service`` selects, found by one of the labels it asks for."""
    return [
        pod
        for label in _selected_by(service)
        for pod in pods.by_index("label", label)
        if selects(service, pod)
    ]


def relevant(old: Object | None, new: Object | None) -> bool:
    """Whether a pod's change can move an endpoint."""
    if old is None or new is None:
        return True

    def facts(pod: Object) -> tuple[Any, ...]:
        status = pod.get("status") or {}
        return (
            pod["metadata"].get("labels"),
            pod["metadata"].get("deletionTimestamp"),
            address_of(pod),
            address_of(pod, "IPv6"),
            status.get("phase") in ("Succeeded", "Failed"),
            pod_state.is_ready(pod),
            pod_state.node_name(pod),
        )

    return facts(old) != facts(new)


__all__ = [
    "Backend",
    "Port",
    "add_indexes",
    "address_of",
    "backends",
    "families",
    "pods_of",
    "relevant",
    "selects",
    "services_of",
    "target_port",
]
