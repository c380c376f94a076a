"""Whether an APIService can be used: the condition Available, and why.

Pure: what the cluster says of the service is judged here; whether the service answers is asked by the aggregator and
put in as ``problem``.

::

    no spec.service                     True   Local
    no such service                     False  ServiceNotFound
    the port is not the service's       False  ServicePortError
    no endpoint slice                   False  EndpointsNotFound
    no ready address for the port       False  MissingEndpoints
    GET /apis/<group>/<version> fails   False  FailedDiscoveryCheck
    none of these                       True   Passed

Source: ``k8s.io/kube-aggregator/pkg/controllers/status`` (reasons and messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bamikube.apiserver.outbound.destination import SERVICES, endpoints
from bamikube.apiserver.registry.reader import Reader

AVAILABLE = "Available"


@dataclass(frozen=True, slots=True)
class Verdict:
    available: bool
    reason: str
    message: str


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
PASSED = Verdict(True, "Passed", "all checks passed")


def judged(spec: Mapping[str, Any], reader: Reader) -> Verdict | None:
    """What can be said without asking the service; None when it has to be asked."""
    reference = spec.get("service")
    if reference is None:
        return LOCAL
    namespace, name = reference.get("namespace") or "", reference.get("name") or ""
    port = reference.get("port") or 443
    service = reader.get(SERVICES, namespace, name)
    where = f'service/{name} in "{namespace}"'
    if service is None:
        return Verdict(False, "ServiceNotFound", f"{where} is not present")
    described = service.get("spec") or {}
    if described.get("type") != "ClusterIP":
        return None
    chosen = next((one for one in described.get("ports") or () if one.get("port") == port), None)
    if chosen is None:
        return Verdict(False, "ServicePortError", f"{where} is not listening on port {port}")
    found, any_slice = endpoints(reader, namespace, name, chosen.get("name") or "")
    if not any_slice:
        return Verdict(False, "EndpointsNotFound", f"cannot find endpointslices for {where}")
    if not found:
        words = (
            f"endpointslices for {where} have no addresses with port name {_quoted(chosen.get('name') or '')}"
        )
        return Verdict(False, "MissingEndpoints", words)
    return None


def _quoted(text: str) -> str:
    return f'"{text}"'


def failed(url: str, why: str) -> Verdict:
    """The service did not answer as it should."""
    return Verdict(False, "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}")


def condition_of(api_service: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition Available as it is stored."""
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == AVAILABLE), None)


def available(api_service: Mapping[str, Any]) -> bool:
    condition = condition_of(api_service)
    return condition is not None and condition.get("status") == "True"


def with_condition(api_service: Mapping[str, Any], verdict: Verdict, now: str) -> dict[str, Any] | None:
    """The APIService with the verdict as its condition, None when it says so already."""
    status = "True" if verdict.available else "False"
    before = condition_of(api_service)
    told = {"type": AVAILABLE, "status": status, "reason": verdict.reason, "message": verdict.message}
    if before is not None and all(before.get(key) == value for key, value in told.items()):
        return None
    since = now if before is None or before.get("status") != status else before.get("lastTransitionTime", now)
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    others = [one for one in conditions if one.get("type") != AVAILABLE]
    written = {**told, "lastTransitionTime": since}
    return {**api_service, "status": {**(api_service.get("status") or {}), "conditions": [*others, written]}}
