"""Rules of roles and bindings. (Who may grant what is the API server's decision, not a matter of form.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.defaults.cluster import RBAC_GROUP
from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1123_subdomain, is_path_segment
from bamikube.api.validation.rules import invalid, label_selector, not_supported, required


def _rule(path: str, rule: dict[str, Any], namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    if not rule.get("verbs"):
        causes.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            causes.append(
                invalid(f"{path}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs")
            )
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            causes.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        return causes
    if not rule.get("apiGroups"):
        causes.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        causes.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return causes


def _role(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        causes += _rule(f"rules[{index}]", rule, namespaced=True)
    return causes


def _cluster_role(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        causes += _rule(f"rules[{index}]", rule, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        selectors = aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            causes.append(required("aggregationRule.clusterRoleSelectors", detail))
        for index, selector in enumerate(selectors):
            causes += label_selector(f"aggregationRule.clusterRoleSelectors[{index}]", selector)
    return causes


def _subject(path: str, subject: dict[str, Any], namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    name, kind, group = subject.get("name") or "", subject.get("kind") or "", subject.get("apiGroup") or ""
    if not name:
        causes.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            causes += [invalid(f"{path}.name", name, message) for message in is_dns1123_subdomain(name)]
        if group:
            causes.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            causes.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != RBAC_GROUP:
            causes.append(not_supported(f"{path}.apiGroup", group, (RBAC_GROUP,)))
    else:
        causes.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return causes


def _binding(namespaced: bool) -> Callable[[dict[str, Any]], list[Cause]]:
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)

    def validate(obj: dict[str, Any]) -> list[Cause]:
        causes: list[Cause] = []
        ref = obj.get("roleRef") or {}
        if ref.get("apiGroup") != RBAC_GROUP:
            causes.append(not_supported("roleRef.apiGroup", ref.get("apiGroup") or "", (RBAC_GROUP,)))
        if ref.get("kind") not in kinds:
            causes.append(not_supported("roleRef.kind", ref.get("kind") or "", kinds))
        if not ref.get("name"):
            causes.append(required("roleRef.name"))
        else:
            causes += [
                invalid("roleRef.name", ref["name"], message) for message in is_path_segment(ref["name"])
            ]
        for index, subject in enumerate(obj.get("subjects") or ()):
            causes += _subject(f"subjects[{index}]", subject, namespaced)
        return causes

    return validate


def _binding_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    if new.get("roleRef") != old.get("roleRef"):
        return [invalid("roleRef", new.get("roleRef"), "cannot change roleRef")]
    return []


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (RBAC_GROUP, "roles"): _role,
    (RBAC_GROUP, "clusterroles"): _cluster_role,
    (RBAC_GROUP, "rolebindings"): _binding(True),
    (RBAC_GROUP, "clusterrolebindings"): _binding(False),
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    (RBAC_GROUP, "rolebindings"): _binding_change,
    (RBAC_GROUP, "clusterrolebindings"): _binding_change,
}
