"""Which pods stand behind a Service, and on which ports: the part Endpoints and EndpointSlices decide alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api.predicates import pods as pod_state

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


def backends(service: Object, pods: list[Object]) -> list[Backend]:
    """The pods behind ``service`` that have an address, in the order of their names."""
    result = []
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        address = (pod.get("status") or {}).get("podIP")
        if not address or pod_state.is_terminal(pod) or not selects(service, pod):
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


def services_of(pod: Object, services: list[Object]) -> list[str]:
    """Keys of the services (of the pod's namespace) that select the pod."""
    namespace = pod["metadata"]["namespace"]
    return [
        f"{namespace}/{service['metadata']['name']}"
        for service in services
        if service["metadata"]["namespace"] == namespace and selects(service, pod)
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
            status.get("podIP"),
            status.get("phase") in ("Succeeded", "Failed"),
            pod_state.is_ready(pod),
            pod_state.node_name(pod),
        )

    return facts(old) != facts(new)


__all__ = ["Backend", "Port", "backends", "relevant", "selects", "services_of", "target_port"]
