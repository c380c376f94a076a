"""What one object uses, under every name a quota may limit it by.

Every object counts as one of ``count/<plural>.<group>``; some kinds also have older names and more to count::

    a pod         pods, cpu, requests.cpu, limits.memory, requests.nvidia.com/gpu ...   until it has ended
    a service     services, services.nodeports, services.loadbalancers
    a claim       persistentvolumeclaims, requests.storage, and both per storage class
                  (gold.storageclass.storage.k8s.io/requests.storage)
    a claim of    per device class the most it may be given (gpu.deviceclass.resource.k8s.io/devices): of
    devices       alternatives the largest, and of "all" as many as one claim can hold

A pod that is being deleted counts until it is gone.

Source: Kubernetes' "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.api import podresources
from bamikube.api.podresources import Amounts
from bamikube.api.predicates.pods import is_terminal
from bamikube.api.quantity import Quantity

Object = dict[str, Any]
Key = tuple[str, str]  # group and plural

PODS, SERVICES, CLAIMS = ("", "pods"), ("", "services"), ("", "persistentvolumeclaims")
DEVICE_CLAIMS = ("resource.k8s.io", "resourceclaims")
# What may be limited by its plain name. Pods, services and claims are among them, with rules of their own.
PLAIN = frozenset({"configmaps", "replicationcontrollers", "resourcequotas", "secrets"})
UNCOUNTED = frozenset({("", "events"), ("events.k8s.io", "events")})
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
DEVICE_SUFFIX = ".deviceclass.resource.k8s.io/devices"
MOST_DEVICES = 32  # of one claim
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES = frozenset(
    {"pods", *_COMPUTE} | {f"requests.{name}" for name in _COMPUTE} | {f"limits.{name}" for name in _COMPUTE}
)
_SERVICE_NAMES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_CLAIM_NAMES = frozenset({"persistentvolumeclaims", "requests.storage"})
_ONE = Quantity.of(1)


def count_name(key: Key) -> str:
    """``count/deployments.apps``."""
    group, plural = key
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def kind_of(name: str) -> Key | None:
    """Which kind a name of a quota is about; None when it is about nothing we know."""
    if name.startswith("count/"):
        plural, _, group = name.removeprefix("count/").partition(".")
        return (group, plural)
    if name in _POD_NAMES or name.startswith(("hugepages-", "requests.hugepages-")) or _is_device(name):
        return PODS
    if name in _SERVICE_NAMES:
        return SERVICES
    if name in _CLAIM_NAMES or CLASS_SUFFIX in name:
        return CLAIMS
    if name.endswith(DEVICE_SUFFIX):
        return DEVICE_CLAIMS
    return ("", name) if name in PLAIN else None


def _is_device(name: str) -> bool:
    """``requests.nvidia.com/gpu``."""
    return name.startswith("requests.") and "/" in name and "kubernetes.io/" not in name


def tracks(names: Mapping[str, Any], key: Key) -> list[str]:
    """Those of the names in a quota that objects of a kind count against."""
    return [] if key in UNCOUNTED else [name for name in names if kind_of(name) == key]


def usage(key: Key, obj: Object) -> Amounts:
    """What the object uses. Raises QuantityError."""
    used: Amounts = {count_name(key): _ONE}
    if key == PODS:
        if not is_terminal(obj):
            spec = obj.get("spec") or {}
            used["pods"] = _ONE
            used.update(compute(podresources.requests(spec), podresources.limits(spec)))
    elif key == SERVICES:
        used.update(_service(obj.get("spec") or {}))
    elif key == CLAIMS:
        used.update(_claim(obj))
    elif key == DEVICE_CLAIMS:
        used.update(_devices(obj.get("spec") or {}))
    elif key[0] == "" and key[1] in PLAIN:
        used[key[1]] = _ONE
    return used


def compute(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> Amounts:
    """Requests and limits under the names of quotas."""
    used: Amounts = {}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = amount
        elif "/" in name and "kubernetes.io/" not in name:
            used[f"requests.{name}"] = amount
    for name in _COMPUTE:
        if name in limits:
            used[f"limits.{name}"] = limits[name]
    return used


def _service(spec: Object) -> Amounts:
    ports = spec.get("ports") or []
    kind = spec.get("type") or "ClusterIP"
    used = {"services": _ONE}
    if kind == "NodePort":
        used["services.nodeports"] = Quantity.of(len(ports))
    elif kind == "LoadBalancer":
        used["services.loadbalancers"] = _ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = [port for port in ports if port.get("nodePort")]
        used["services.nodeports"] = Quantity.of(len(ports))
    return used


def storage_class(claim: Object) -> str:
    """The name of a claim's storage class; "" for none."""
    annotated = (claim["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    return str(
        annotated if annotated is not None else (claim.get("spec") or {}).get("storageClassName") or ""
    )


def _claim(obj: Object) -> Amounts:
    used = {"persistentvolumeclaims": _ONE}
    asked = (((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        size = Quantity.parse(asked)
        allocated = ((obj.get("status") or {}).get("allocatedResources") or {}).get("storage")
        if allocated is not None and Quantity.parse(allocated) > size:
            size = Quantity.parse(allocated)  # an expansion that was begun and taken back is still there
        used["requests.storage"] = size if size.is_whole() else Quantity.of(size.value(), size.format)
    if name := storage_class(obj):
        used |= {f"{name}{CLASS_SUFFIX}{what}": amount for what, amount in used.items()}
    return used


def _devices(spec: Object) -> Amounts:
    wanted: dict[str, int] = {}
    for request in (spec.get("devices") or {}).get("requests") or []:
        most: dict[str, int] = {}
        for way in request.get("firstAvailable") or [request.get("exactly") or {}]:
            count = MOST_DEVICES if way.get("allocationMode") == "All" else way.get("count", 0)
            name = way.get("deviceClassName", "")
            most[name] = max(count, most.get(name, 0))
        for name, count in most.items():
            wanted[name] = wanted.get(name, 0) + count
    return {f"{name}{DEVICE_SUFFIX}": Quantity.of(count) for name, count in wanted.items() if name}
