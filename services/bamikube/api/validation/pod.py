"""Rules of pods and pod templates."""

from __future__ import annotations

import copy
import ipaddress
from typing import Any

from bamikube.api.defaults.pod import pod as default_pod
from bamikube.api.errors import Cause
from bamikube.api.names import (
    is_dns1123_label,
    is_dns1123_subdomain,
    is_qualified_name,
)
from bamikube.api.validation.containers import all_containers, downward_field, resource_field_ref
from bamikube.api.validation.metadata import annotation_map
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    label_selector,
    labels,
    named,
    not_negative,
    not_supported,
    one_of,
    required,
)

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def _items(field: str, items: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        path = f"{field}[{index}]"
        if not item.get("key"):
            causes.append(required(f"{path}.key"))
        causes += _local_path(f"{path}.path", item.get("path"))
        causes += _mode(f"{path}.mode", item.get("mode"))
    return causes


def _local_path(field: str, path: str | None) -> list[Cause]:
    if not path:
        return [required(field)]
    if path.startswith("/"):
        return [invalid(field, path, "must be a relative path")]
    if ".." in path.split("/"):
        return [invalid(field, path, "must not contain '..'")]
    return [invalid(field, path, "must not start with '..'")] if path.startswith("..") else []


def _mode(field: str, mode: int | None) -> list[Cause]:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [invalid(field, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def _downward(field: str, items: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        path = f"{field}[{index}]"
        causes += _local_path(f"{path}.path", item.get("path"))
        if item.get("fieldRef") is not None:
            causes += downward_field(f"{path}.fieldRef", item["fieldRef"])
        elif item.get("resourceFieldRef") is not None:
            causes += resource_field_ref(f"{path}.resourceFieldRef", item["resourceFieldRef"])
        else:
            causes.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return causes


def _projected(field: str, source: dict[str, Any]) -> list[Cause]:
    causes = _mode(f"{field}.defaultMode", source.get("defaultMode"))
    for index, each in enumerate(source.get("sources") or ()):
        path = f"{field}.sources[{index}]"
        if not each:
            causes.append(required(path, "must specify one source"))
        for kind in ("secret", "configMap"):
            if each.get(kind) is not None:
                causes += named(f"{path}.{kind}.name", each[kind].get("name"), is_dns1123_subdomain)
                causes += _items(f"{path}.{kind}.items", each[kind].get("items") or [])
        if each.get("downwardAPI") is not None:
            causes += _downward(f"{path}.downwardAPI.items", each["downwardAPI"].get("items") or [])
        token = each.get("serviceAccountToken")
        if token is not None:
            seconds = token.get("expirationSeconds", 3600)
            if seconds < 600:
                causes.append(
                    invalid(
                        f"{path}.serviceAccountToken.expirationSeconds",
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    )
                )
            causes += _local_path(f"{path}.serviceAccountToken.path", token.get("path"))
    return causes


def _volume(path: str, volume: dict[str, Any]) -> list[Cause]:
    sources = [kind for kind in volume if kind != "name"]
    if not sources:
        return [required(path, "must specify a volume type")]
    causes = [forbidden(f"{path}.{kind}", "may not specify more than 1 volume type") for kind in sources[1:]]
    kind, source = sources[0], volume[sources[0]]
    field = f"{path}.{kind}"
    if kind == "secret":
        causes += named(f"{field}.secretName", source.get("secretName"), is_dns1123_subdomain)
        causes += _mode(f"{field}.defaultMode", source.get("defaultMode"))
        causes += _items(f"{field}.items", source.get("items") or [])
    elif kind == "configMap":
        causes += named(f"{field}.name", source.get("name"), is_dns1123_subdomain)
        causes += _mode(f"{field}.defaultMode", source.get("defaultMode"))
        causes += _items(f"{field}.items", source.get("items") or [])
    elif kind == "downwardAPI":
        causes += _downward(f"{field}.items", source.get("items") or [])
    elif kind == "projected":
        causes += _projected(field, source)
    elif kind == "hostPath":
        if not source.get("path"):
            causes.append(required(f"{field}.path"))
        elif ".." in source["path"].split("/"):
            causes.append(invalid(f"{field}.path", source["path"], "must not contain '..'"))
        if source.get("type") not in _HOST_PATH_TYPES and source.get("type") is not None:
            causes.append(not_supported(f"{field}.type", source["type"], _HOST_PATH_TYPES))
    elif kind == "persistentVolumeClaim" and not source.get("claimName"):
        causes.append(required(f"{field}.claimName"))
    elif kind == "nfs":
        causes += [required(f"{field}.{name}") for name in ("server", "path") if not source.get(name)]
    elif kind == "csi" and not source.get("driver"):
        causes.append(required(f"{field}.driver"))
    return causes


def _volumes(field: str, volumes: list[dict[str, Any]]) -> tuple[list[Cause], set[str]]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"{field}[{index}]"
        name = volume.get("name")
        causes += named(f"{path}.name", name, is_dns1123_label)
        if name:
            if name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        causes += _volume(path, volume)
    return causes, names


def _tolerations(field: str, tolerations: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, each in enumerate(tolerations):
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


def ip(field: str, text: str) -> list[Cause]:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return [invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def pod_spec(spec: dict[str, Any], field: str = "spec") -> list[Cause]:
    """The rules a pod and a template share."""
    causes, names = _volumes(f"{field}.volumes", spec.get("volumes") or [])
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
        causes += _tolerations(f"{field}.tolerations", spec["tolerations"])
    if spec.get("affinity"):
        causes += _affinity(f"{field}.affinity", spec["affinity"])
    if spec.get("topologySpreadConstraints"):
        causes += _spread(f"{field}.topologySpreadConstraints", spec["topologySpreadConstraints"])
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        causes += ip(f"{field}.hostAliases[{index}].ip", alias.get("ip") or "")
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        causes += named(f"{field}.schedulingGates[{index}].name", gate.get("name"), is_qualified_name)
    return causes


def pod_template(template: dict[str, Any], field: str) -> list[Cause]:
    """A template: labels and annotations, and the spec of a pod that has no node yet."""
    metadata = template.get("metadata") or {}
    causes = labels(f"{field}.metadata.labels", metadata.get("labels"))
    causes += annotation_map(f"{field}.metadata.annotations", metadata.get("annotations") or {})
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
    causes += _tolerations("spec.tolerations", after.get("tolerations") or [])
    if _without_changeable(after, before) != before and not _only_defaults(after, old):
        causes.append(forbidden("spec", f"pod updates may not change fields other than {_PLAIN_CHANGES}"))
    return causes
