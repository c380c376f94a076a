"""Defaults of namespaces, nodes, secrets, limits, roles, and of what extends the API."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

RBAC_GROUP = "rbac.authorization.k8s.io"
NAME_LABEL = "kubernetes.io/metadata.name"


def _namespace(obj: dict[str, Any]) -> None:
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name"):
        metadata.setdefault("labels", {})[NAME_LABEL] = metadata["name"]


def _node(obj: dict[str, Any]) -> None:
    spec = obj.get("spec") or {}
    if spec.get("podCIDRs"):  # the single name and the list mean the same, whoever writes one means both
        spec["podCIDR"] = spec["podCIDRs"][0]
    elif spec.get("podCIDR"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    status = obj.get("status") or {}
    if status.get("capacity") and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])


def _secret(obj: dict[str, Any]) -> None:
    """``stringData`` is written, never read: it moves into ``data``."""
    obj["type"] = obj.get("type") or "Opaque"
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.get("data") or {}
        data.update({key: base64.b64encode(text.encode()).decode() for key, text in plain.items()})
        obj["data"] = data


def _limit_range(obj: dict[str, Any]) -> None:
    for item in (obj.get("spec") or {}).get("limits") or ():
        if item.get("type") != "Container":
            continue
        limits, requests = dict(item.get("default") or {}), dict(item.get("defaultRequest") or {})
        for name, value in (item.get("max") or {}).items():
            limits.setdefault(name, value)
        for name, value in limits.items():
            requests.setdefault(name, value)
        for name, value in (item.get("min") or {}).items():
            requests.setdefault(name, value)
        if limits:
            item["default"] = limits
        if requests:
            item["defaultRequest"] = requests


def _binding(obj: dict[str, Any]) -> None:
    ref = obj.setdefault("roleRef", {})
    ref["apiGroup"] = ref.get("apiGroup") or RBAC_GROUP
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = subject.get("apiGroup") or RBAC_GROUP


def _priority_class(obj: dict[str, Any]) -> None:
    obj.setdefault("value", 0)
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _webhooks(mutating: bool) -> Callable[[dict[str, Any]], None]:
    def default(obj: dict[str, Any]) -> None:
        for hook in obj.get("webhooks") or ():
            hook.setdefault("failurePolicy", "Fail")
            hook.setdefault("matchPolicy", "Equivalent")
            hook.setdefault("namespaceSelector", {})
            hook.setdefault("objectSelector", {})
            hook.setdefault("timeoutSeconds", 10)
            if mutating:
                hook.setdefault("reinvocationPolicy", "Never")
            service = (hook.get("clientConfig") or {}).get("service")
            if service is not None:
                service.setdefault("port", 443)
            for rule in hook.get("rules") or ():
                rule.setdefault("scope", "*")

    return default


def _match(resources: dict[str, Any]) -> None:
    resources.setdefault("matchPolicy", "Equivalent")
    resources.setdefault("namespaceSelector", {})
    resources.setdefault("objectSelector", {})
    for rule in [*(resources.get("resourceRules") or ()), *(resources.get("excludeResourceRules") or ())]:
        rule.setdefault("scope", "*")


def _admission_policy(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    if spec.get("matchConstraints") is not None:
        _match(spec["matchConstraints"])


def _mutating_policy(obj: dict[str, Any]) -> None:
    _admission_policy(obj)
    obj["spec"]["reinvocationPolicy"] = obj["spec"].get("reinvocationPolicy") or "Never"


def _admission_policy_binding(obj: dict[str, Any]) -> None:
    match = (obj.get("spec") or {}).get("matchResources")
    if match is not None:
        _match(match)


def _custom_resource_definition(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names["singular"] = names.get("singular") or names["kind"].lower()
        names["listKind"] = names.get("listKind") or names["kind"] + "List"
    for version in spec.get("versions") or ():
        version.setdefault("served", False)
        version.setdefault("storage", False)
    conversion = spec.setdefault("conversion", {})
    conversion["strategy"] = conversion.get("strategy") or "None"
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def _api_service(obj: dict[str, Any]) -> None:
    service = (obj.get("spec") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def _flow_schema(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec["matchingPrecedence"] = spec.get("matchingPrecedence") or 1000


def _priority_level(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("exempt") is not None:
        spec["exempt"].setdefault("nominalConcurrencyShares", 0)
        spec["exempt"].setdefault("lendablePercent", 0)
    limited = spec.get("limited")
    if limited is not None:
        limited.setdefault("nominalConcurrencyShares", 30)
        limited.setdefault("lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for field, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                queuing[field] = queuing.get(field) or value


def _claim_spec(spec: dict[str, Any]) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        exact = request.get("exactly")
        for each in [*([exact] if exact is not None else []), *(request.get("firstAvailable") or ())]:
            each["allocationMode"] = each.get("allocationMode") or "ExactCount"
            if each["allocationMode"] == "ExactCount":
                each["count"] = each.get("count") or 1


def _resource_claim(obj: dict[str, Any]) -> None:
    _claim_spec(obj.setdefault("spec", {}))


def _resource_claim_template(obj: dict[str, Any]) -> None:
    _claim_spec(obj.setdefault("spec", {}).setdefault("spec", {}))


def _resource_slice(obj: dict[str, Any]) -> None:
    if pool := (obj.get("spec") or {}).get("pool"):
        pool.setdefault("generation", 0)


_ADMISSION = "admissionregistration.k8s.io/v1"
DEFAULTS: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("v1", "Namespace"): _namespace,
    ("v1", "Node"): _node,
    ("v1", "Secret"): _secret,
    ("v1", "LimitRange"): _limit_range,
    (f"{RBAC_GROUP}/v1", "RoleBinding"): _binding,
    (f"{RBAC_GROUP}/v1", "ClusterRoleBinding"): _binding,
    ("scheduling.k8s.io/v1", "PriorityClass"): _priority_class,
    (_ADMISSION, "ValidatingWebhookConfiguration"): _webhooks(False),
    (_ADMISSION, "MutatingWebhookConfiguration"): _webhooks(True),
    (_ADMISSION, "ValidatingAdmissionPolicy"): _admission_policy,
    (f"{_ADMISSION}beta1", "MutatingAdmissionPolicy"): _mutating_policy,
    (f"{_ADMISSION}beta1", "MutatingAdmissionPolicyBinding"): _admission_policy_binding,
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): _admission_policy_binding,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): _custom_resource_definition,
    ("apiregistration.k8s.io/v1", "APIService"): _api_service,
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"): _flow_schema,
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"): _priority_level,
    ("resource.k8s.io/v1", "ResourceClaim"): _resource_claim,
    ("resource.k8s.io/v1", "ResourceClaimTemplate"): _resource_claim_template,
    ("resource.k8s.io/v1", "ResourceSlice"): _resource_slice,
}
