"""Rules of pods and pod templates."""

from __future__ import annotations

import copy
from typing import Any

from bamikube.api.defaults.pod import pod as default_pod
from bamikube.api.errors import Cause
from bamikube.api.memory import Approved
from bamikube.api.names import (
    is_dns1123_label,
    is_dns1123_subdomain,
    is_qualified_name,
)
from bamikube.api.validation.containers import all_containers, fits
from bamikube.api.validation.metadata import annotation_map
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    ip,
    label_selector,
    labels,
    named,
    not_negative,
    not_negative_amount,
    not_supported,
    one_of,
    required,
)
from bamikube.api.validation.security import host_sharing, pod_context
from bamikube.api.validation.volumes import volumes

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def tolerations(field: str, given: list[dict[str, Any]]) -> list[Cause]:
    """What a pod (or all pods of a runtime class) puts up with."""
    causes: list[Cause] = []
    for index, each in enumerate(given):
        path = f"{field}[{index}]"
        key, operator = each.get("key") or "", each.get("operator") or "Equal"
        if key:
            causes += [invalid(f"{path}.key", key, message) for message in is_qualified_name(key)]
        elif operator != "Exists":
            causes.append(
                invalid(
                    f"{path}.operator",
                    each.get("operator", ""),
                    'operator must be Exists when `key` is empty, which means "match all values and all keys"',
                )
            )
        if operator not in ("Equal", "Exists"):
            causes.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
        elif operator == "Exists" and each.get("value"):
            causes.append(
                invalid(f"{path}.operator", operator, "value must be empty when `operator` is 'Exists'")
            )
        effect = each.get("effect")
        if effect:
            causes += one_of(f"{path}.effect", effect, _EFFECTS)
        if each.get("tolerationSeconds") is not None and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(invalid(f"{path}.effect", effect or "", detail))
    return causes


_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def node_selector_term(field: str, term: dict[str, Any]) -> list[Cause]:
    """One term of a node selector."""
    causes: list[Cause] = []
    for index, each in enumerate(term.get("matchExpressions") or ()):
        path = f"{field}.matchExpressions[{index}]"
        operator, values = each.get("operator", ""), each.get("values") or []
        if operator in ("In", "NotIn") and not values:
            causes.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            causes.append(
                forbidden(
                    f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
            )
        elif operator in ("Gt", "Lt") and len(values) != 1:
            causes.append(
                required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
            )
        elif operator not in _NODE_OPERATORS:
            causes.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
        causes += [
            invalid(f"{path}.key", each.get("key", ""), m) for m in is_qualified_name(each.get("key") or "")
        ]
    return causes


def _pod_term(path: str, term: dict[str, Any]) -> list[Cause]:
    causes = label_selector(f"{path}.labelSelector", term.get("labelSelector"))
    causes += label_selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    if not term.get("topologyKey"):
        return [*causes, required(f"{path}.topologyKey", "can not be empty")]
    key = term["topologyKey"]
    return causes + [invalid(f"{path}.topologyKey", key, message) for message in is_qualified_name(key)]


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def _weight(path: str, weight: int) -> list[Cause]:
    return [] if 1 <= weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _affinity(field: str, affinity: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    node = affinity.get("nodeAffinity") or {}
    if node.get(_REQUIRED) is not None:
        path = f"{field}.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
        terms = node[_REQUIRED].get("nodeSelectorTerms") or []
        if not terms:
            causes.append(required(path, "must have at least one node selector term"))
        for index, term in enumerate(terms):
            causes += node_selector_term(f"{path}[{index}]", term)
    for index, each in enumerate(node.get(_PREFERRED) or ()):
        path = f"{field}.nodeAffinity.{_PREFERRED}[{index}]"
        causes += _weight(path, each.get("weight", 0)) + node_selector_term(
            f"{path}.preference", each.get("preference") or {}
        )
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = (affinity.get(kind) or {}).get(_REQUIRED) or []
        for index, term in enumerate(terms):
            causes += _pod_term(f"{field}.{kind}.{_REQUIRED}[{index}]", term)
        for index, each in enumerate((affinity.get(kind) or {}).get(_PREFERRED) or ()):
            path = f"{field}.{kind}.{_PREFERRED}[{index}]"
            causes += _weight(path, each.get("weight", 0))
            causes += _pod_term(f"{path}.podAffinityTerm", each.get("podAffinityTerm") or {})
    return causes


def _spread(field: str, constraints: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, each in enumerate(constraints):
        path = f"{field}[{index}]"
        if each.get("maxSkew", 0) <= 0:
            causes.append(invalid(f"{path}.maxSkew", each.get("maxSkew", 0), "must be greater than zero"))
        causes += named(f"{path}.topologyKey", each.get("topologyKey"), is_qualified_name)
        when = each.get("whenUnsatisfiable") or ""
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            causes.append(
                not_supported(f"{path}.whenUnsatisfiable", when, ("DoNotSchedule", "ScheduleAnyway"))
            )
        pair = (each.get("topologyKey") or "", when)
        if pair in seen:
            causes.append(
                duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", "{" + ", ".join(pair) + "}")
            )
        seen.add(pair)
        causes += label_selector(f"{path}.labelSelector", each.get("labelSelector"))
        causes += _spread_details(path, each, when)
    return causes


def _spread_details(path: str, each: dict[str, Any], when: str) -> list[Cause]:
    causes: list[Cause] = []
    domains = each.get("minDomains")
    if domains is not None:
        if domains <= 0:
            causes.append(invalid(f"{path}.minDomains", domains, "must be greater than zero"))
        if when != "DoNotSchedule":
            detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + when
            causes.append(invalid(f"{path}.minDomains", domains, detail))
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if each.get(name) is not None and each[name] not in ("Honor", "Ignore"):
            causes.append(not_supported(f"{path}.{name}", each[name], ("Honor", "Ignore")))
    keys = each.get("matchLabelKeys") or []
    if keys and each.get("labelSelector") is None:
        detail = "must not be specified when labelSelector is not set"
        causes.append(forbidden(f"{path}.matchLabelKeys", detail))
    taken = {item.get("key") for item in (each.get("labelSelector") or {}).get("matchExpressions") or ()}
    taken |= set((each.get("labelSelector") or {}).get("matchLabels") or ())
    for index, key in enumerate(keys):
        where = f"{path}.matchLabelKeys[{index}]"
        causes += [invalid(where, key, message) for message in is_qualified_name(key)]
        if key in taken:
            causes.append(invalid(where, key, "exists in both matchLabelKeys and labelSelector"))
    return causes


def _dns(field: str, spec: dict[str, Any]) -> list[Cause]:
    causes = one_of(f"{field}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    config = spec.get("dnsConfig") or {}
    servers = config.get("nameservers") or []
    if spec.get("dnsPolicy") == "None" and not servers:
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        causes.append(required(f"{field}.dnsConfig.nameservers", detail))
    if len(servers) > 3:
        causes.append(
            invalid(f"{field}.dnsConfig.nameservers", servers, "must not have more than 3 nameservers")
        )
    for index, server in enumerate(servers):
        causes += ip(f"{field}.dnsConfig.nameservers[{index}]", server)
    return causes


def pod_spec(spec: dict[str, Any], field: str = "spec") -> list[Cause]:
    """The rules a pod and a template share."""
    causes, names = volumes(f"{field}.volumes", spec.get("volumes") or [])
    causes += all_containers(spec, field, names)
    causes += one_of(f"{field}.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES)
    causes += _dns(field, spec)
    if spec.get("nodeSelector"):
        causes += labels(f"{field}.nodeSelector", spec["nodeSelector"])
    causes += named(
        f"{field}.serviceAccountName", spec.get("serviceAccountName"), is_dns1123_subdomain, needed=False
    )
    causes += named(f"{field}.nodeName", spec.get("nodeName"), is_dns1123_subdomain, needed=False)
    causes += named(f"{field}.hostname", spec.get("hostname"), is_dns1123_label, needed=False)
    causes += named(f"{field}.subdomain", spec.get("subdomain"), is_dns1123_label, needed=False)
    causes += named(f"{field}.schedulerName", spec.get("schedulerName"), is_qualified_name, needed=False)
    causes += named(
        f"{field}.priorityClassName", spec.get("priorityClassName"), is_dns1123_subdomain, needed=False
    )
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        detail = "must be between 1 and 2147483647, inclusive"
        causes.append(invalid(f"{field}.activeDeadlineSeconds", deadline, detail))
    if spec.get("tolerations"):
        causes += tolerations(f"{field}.tolerations", spec["tolerations"])
    if spec.get("affinity"):
        causes += _affinity(f"{field}.affinity", spec["affinity"])
    if spec.get("topologySpreadConstraints"):
        causes += _spread(f"{field}.topologySpreadConstraints", spec["topologySpreadConstraints"])
    causes += pod_context(f"{field}.securityContext", spec) + host_sharing(field, spec)
    if spec.get("hostNetwork"):
        causes += _ports_of_the_host(field, spec)
    causes += _words(field, spec)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        causes += ip(f"{field}.hostAliases[{index}].ip", alias.get("ip") or "")
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        path, name = f"{field}.schedulingGates[{index}]", gate.get("name")
        causes += named(f"{path}.name", name, is_qualified_name)
        if any(each.get("name") == name for each in spec["schedulingGates"][:index]):
            causes.append(duplicate(path, name))
    return causes


def _ports_of_the_host(field: str, spec: dict[str, Any]) -> list[Cause]:
    """A pod in the host's network has the host's ports: both numbers are one."""
    return [
        invalid(
            f"{field}.{kind}[{index}].ports[{place}].containerPort",
            port.get("containerPort", 0),
            "must match `hostPort` when `hostNetwork` is true",
        )
        for kind in ("containers", "initContainers")
        for index, each in enumerate(spec.get(kind) or ())
        for place, port in enumerate(each.get("ports") or ())
        if port.get("hostPort") != port.get("containerPort")
    ]


def _words(field: str, spec: dict[str, Any]) -> list[Cause]:
    """Fields that are one of a few words, or a name of something else."""
    causes: list[Cause] = []
    if spec.get("preemptionPolicy") is not None:
        causes += one_of(
            f"{field}.preemptionPolicy", spec["preemptionPolicy"], ("Never", "PreemptLowerPriority")
        )
    if spec.get("os") is not None:
        causes += one_of(f"{field}.os.name", spec["os"].get("name"), ("linux", "windows"))
    causes += named(
        f"{field}.runtimeClassName", spec.get("runtimeClassName"), is_dns1123_subdomain, needed=False
    )
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        path = f"{field}.readinessGates[{index}].conditionType"
        causes += [invalid(path, kind, message) for message in is_qualified_name(kind)]
    for index, claim in enumerate(spec.get("resourceClaims") or ()):
        path = f"{field}.resourceClaims[{index}]"
        causes += named(f"{path}.name", claim.get("name"), is_dns1123_label)
        given = [name for name in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(name)]
        if len(given) != 1:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            if given:
                detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            causes.append(invalid(path, claim, detail))
    for name, amount in (spec.get("overhead") or {}).items():
        causes += not_negative_amount(f"{field}.overhead[{name}]", amount)
    return causes


_APPROVED = Approved(1024)
_IMAGES = ("containers", "initContainers")


def pod_template(template: dict[str, Any], field: str) -> list[Cause]:
    """A template: labels and annotations, and the spec of a pod that has no node yet.

    Most templates differ from one seen before in images at most, about which there is one rule.
    """
    spec = dict(template.get("spec") or {})
    for kind in _IMAGES:
        if spec.get(kind):
            spec[kind] = [{**each, "image": fits(each.get("image"))} for each in spec[kind]]
    return _APPROVED.judge({**template, "spec": spec}, lambda: _pod_template(template, field))


def _pod_template(template: dict[str, Any], field: str) -> list[Cause]:
    metadata = template.get("metadata") or {}
    causes = labels(f"{field}.labels", metadata.get("labels"))
    causes += annotation_map(f"{field}.annotations", metadata.get("annotations") or {})
    spec = template.get("spec") or {}
    if spec.get("ephemeralContainers"):
        causes.append(
            forbidden(f"{field}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")
        )
    return causes + pod_spec(spec, f"{field}.spec")


def validate_pod(obj: dict[str, Any]) -> list[Cause]:
    """A new pod."""
    spec = obj.get("spec") or {}
    causes = pod_spec(spec)
    if spec.get("ephemeralContainers"):
        causes.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        causes.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return causes


_PLAIN_CHANGES = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
    "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)


def _without_changeable(spec: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The spec with everything that may change set as it was."""
    result = dict(spec)
    for kind in ("containers", "initContainers"):
        before = old.get(kind) or []
        now = result.get(kind) or []
        if len(before) == len(now):
            result[kind] = [
                {**each, "image": was.get("image")} for each, was in zip(now, before, strict=True)
            ]
            if not now:
                result.pop(kind, None)
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        result.pop(field, None)
        if field in old:
            result[field] = old[field]
    if old.get("terminationGracePeriodSeconds", 0) < 0 and result.get("terminationGracePeriodSeconds") == 1:
        result["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    if old.get("schedulingGates"):
        for field in ("nodeSelector", "affinity"):
            result.pop(field, None)
            if field in old:
                result[field] = old[field]
    return result


def _tolerated(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[Cause]:
    def sameness(each: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(each.get(name) or "") for name in ("key", "operator", "value", "effect"))

    kept = {sameness(each) for each in new}
    if all(sameness(each) in kept for each in old):
        return []
    return [
        forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    ]


def _only_defaults(after: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether what differs is defaults alone: the stored pod may hold parts that were added after defaulting."""
    defaulted = copy.deepcopy(old)
    default_pod(defaulted)
    return _without_changeable(after, defaulted["spec"]) == defaulted["spec"]


def validate_pod_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    """What may change in a pod: images, deadline (shorter), tolerations (more of them), gates (fewer)."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    causes: list[Cause] = []
    for kind in ("containers", "initContainers"):
        now, was = after.get(kind) or [], before.get(kind) or []
        if len(now) != len(was):
            causes.append(forbidden(f"spec.{kind}", "pod updates may not add or remove containers"))
            return causes
        for index, each in enumerate(now):
            image = each.get("image") or ""
            if not image.strip():
                causes.append(required(f"spec.{kind}[{index}].image"))
    deadline, previous = after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is not None and not 0 <= deadline <= 2**31 - 1:
        causes.append(
            invalid("spec.activeDeadlineSeconds", deadline, "must be between 0 and 2147483647, inclusive")
        )
    elif previous is not None and deadline is None:
        causes.append(
            invalid(
                "spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value"
            )
        )
    elif previous is not None and deadline is not None and deadline > previous:
        causes.append(
            invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
        )
    causes += not_negative("spec.activeDeadlineSeconds", deadline)
    added = {each.get("name") for each in after.get("schedulingGates") or ()} - {
        each.get("name") for each in before.get("schedulingGates") or ()
    }
    for name in sorted(str(each) for each in added):
        causes.append(
            forbidden(
                "spec.schedulingGates",
                f"only deletion is allowed, but found new scheduling gate '{{\"{name}\"}}'",
            )
        )
    causes += _tolerated(after.get("tolerations") or [], before.get("tolerations") or [])
    causes += tolerations("spec.tolerations", after.get("tolerations") or [])
    if _without_changeable(after, before) != before and not _only_defaults(after, old):
        causes.append(forbidden("spec", f"pod updates may not change fields other than {_PLAIN_CHANGES}"))
    return causes


CREATE = {("", "pods"): validate_pod}
UPDATE = {("", "pods"): validate_pod_change}
