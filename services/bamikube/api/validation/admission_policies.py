"""Rules of admission policies and their bindings.

Source: the API reference (admissionregistration.k8s.io/v1 and v1beta1); the texts are those of Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1035_label, is_dns1123_subdomain, is_qualified_name
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    label_selector,
    named,
    not_supported,
    one_of,
    required,
    too_many,
)
from bamikube.api.validation.webhooks import match_conditions, rule_with_operations

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
ACTIONS = ("Audit", "Deny", "Warn")
MOST_ANNOTATIONS = 20
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TWO_PLACES = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
    "headers serves no purpose)"
)

Object = dict[str, Any]


def _validating(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _common(spec)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        text = "validations or auditAnnotations must be non-empty"
        causes += [required("spec.validations", text), required("spec.auditAnnotations", text)]
    for index, each in enumerate(validations):
        causes += _validation(f"spec.validations[{index}]", each)
    if len(annotations) > MOST_ANNOTATIONS:
        text = f"must not have more than {MOST_ANNOTATIONS} auditAnnotations"
        causes.append(invalid("spec.auditAnnotations", annotations, text))
    seen: set[str] = set()
    for index, each in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{index}]", each.get("key") or ""
        if not key:
            causes.append(required(f"{path}.key"))
        else:
            name = (obj.get("metadata") or {}).get("name") or "policy"
            causes += [invalid(f"{path}.key", key, text) for text in is_qualified_name(f"{name}/{key}")]
            if key in seen:
                causes.append(duplicate(f"{path}.key", key))
        seen.add(key)
        if not (each.get("valueExpression") or "").strip():
            causes.append(required(f"{path}.valueExpression", "valueExpression is not specified"))
    return causes + _expressions(spec, causes)


def _mutating(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _common(spec)
    mutations = spec.get("mutations") or []
    if not mutations:
        causes.append(required("spec.mutations", "mutations must contain at least one item"))
    for index, each in enumerate(mutations):
        causes += _mutation(f"spec.mutations[{index}]", each)
    causes += one_of("spec.reinvocationPolicy", spec.get("reinvocationPolicy"), ("IfNeeded", "Never"))
    return causes + _expressions(spec, causes)


def _expressions(spec: Object, causes: list[Cause]) -> list[Cause]:
    """What the compiler says, once all else is well."""
    if causes:
        return []
    from bamikube.api.cel.policies import compile_policy  # the CEL library is loaded by the first expression

    return compile_policy(spec).causes


def _common(spec: Object) -> list[Cause]:
    causes = one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    kind = spec.get("paramKind")
    if kind is not None:
        causes += _param_kind("spec.paramKind", kind)
    match = spec.get("matchConstraints")
    if match is None:
        causes.append(required("spec.matchConstraints"))
    else:
        if not match.get("resourceRules"):
            causes.append(required("spec.matchConstraints.resourceRules"))
        causes += _match_resources("spec.matchConstraints", match)
    causes += match_conditions("spec.matchConditions", spec.get("matchConditions") or [])
    seen: set[str] = set()
    for index, each in enumerate(spec.get("variables") or ()):
        path, name = f"spec.variables[{index}]", each.get("name") or ""
        if not name:
            causes.append(required(f"{path}.name", "name is not specified"))
        elif not _IDENTIFIER.match(name):
            causes.append(invalid(f"{path}.name", name, "name is not a valid CEL identifier"))
        elif name in seen:
            causes.append(duplicate(f"{path}.name", name))
        seen.add(name)
        if not (each.get("expression") or "").strip():
            causes.append(required(f"{path}.expression", "expression is not specified"))
    return causes


def _param_kind(path: str, kind: Object) -> list[Cause]:
    causes: list[Cause] = []
    version = kind.get("apiVersion") or ""
    if not version:
        causes.append(required(f"{path}.apiVersion"))
    elif version.count("/") > 1:
        causes.append(invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    else:
        group, _, last = version.rpartition("/")
        if group:
            causes += [invalid(f"{path}.apiVersion", version, text) for text in is_dns1123_subdomain(group)]
        causes += [invalid(f"{path}.apiVersion", version, text) for text in is_dns1035_label(last)]
    name = kind.get("kind") or ""
    if not name:
        causes.append(required(f"{path}.kind"))
    else:
        causes += [
            invalid(f"{path}.kind", name, f"may have mixed case, but should otherwise match: {text}")
            for text in is_dns1035_label(name.lower())
        ]
    return causes


def _match_resources(path: str, match: Object) -> list[Cause]:
    causes = one_of(f"{path}.matchPolicy", match.get("matchPolicy"), ("Equivalent", "Exact"), needed=False)
    causes += label_selector(f"{path}.namespaceSelector", match.get("namespaceSelector"))
    causes += label_selector(f"{path}.objectSelector", match.get("objectSelector"))
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(field) or ()):
            where = f"{path}.{field}[{index}]"
            causes += rule_with_operations(where, rule)
            seen: set[str] = set()
            for place, name in enumerate(rule.get("resourceNames") or ()):
                if name in seen:
                    causes.append(duplicate(f"{where}.resourceNames[{place}]", name))
                seen.add(name)
    return causes


def _validation(path: str, each: Object) -> list[Cause]:
    causes: list[Cause] = []
    expression, message = (each.get("expression") or "").strip(), each.get("message") or ""
    if not expression:
        causes.append(required(f"{path}.expression", "expression is not specified"))
    if message and not message.strip():
        causes.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        causes.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    elif "\n" in expression and not message.strip():
        causes.append(
            required(f"{path}.message", "message must be specified if expression contains line breaks")
        )
    text = each.get("messageExpression") or ""
    if text and not text.strip():
        causes.append(invalid(f"{path}.messageExpression", text, "must be non-empty if specified"))
    if each.get("reason") and each["reason"] not in REASONS:
        causes.append(not_supported(f"{path}.reason", each["reason"], REASONS))
    return causes


def _mutation(path: str, each: Object) -> list[Cause]:
    kind = each.get("patchType") or ""
    if not kind:
        return [required(f"{path}.patchType")]
    if kind not in ("ApplyConfiguration", "JSONPatch"):
        return [not_supported(f"{path}.patchType", kind, ("ApplyConfiguration", "JSONPatch"))]
    mine, other = (
        ("jsonPatch", "applyConfiguration") if kind == "JSONPatch" else ("applyConfiguration", "jsonPatch")
    )
    causes: list[Cause] = []
    if each.get(other) is not None:
        causes.append(forbidden(f"{path}.{other}", f"{other} must not be specified when patchType is {kind}"))
    if each.get(mine) is None:
        causes.append(required(f"{path}.{mine}", f"must be specified when patchType is {kind}"))
    elif not (each[mine].get("expression") or "").strip():
        causes.append(required(f"{path}.{mine}.expression", "expression is not specified"))
    return causes


# -- bindings --------------------------------------------------------------------------------------------------------


def _binding(mutating: bool) -> Callable[[Object], list[Cause]]:
    def validate(obj: Object) -> list[Cause]:
        spec = obj.get("spec") or {}
        causes = named("spec.policyName", spec.get("policyName"), is_dns1123_subdomain)
        if spec.get("paramRef") is not None:
            causes += _param_ref("spec.paramRef", spec["paramRef"])
        if spec.get("matchResources") is not None:
            causes += _match_resources("spec.matchResources", spec["matchResources"])
        return causes if mutating else causes + _actions(spec.get("validationActions") or [])

    return validate


def _param_ref(path: str, ref: Object) -> list[Cause]:
    causes: list[Cause] = []
    name, selector = ref.get("name") or "", ref.get("selector")
    if name:
        causes += [invalid(f"{path}.name", name, text) for text in is_dns1123_subdomain(name)]
        if selector is not None:
            causes.append(forbidden(f"{path}.name", "name and selector are mutually exclusive"))
    elif selector is None:
        causes.append(required(path, "one of name or selector must be specified"))
    causes += label_selector(f"{path}.selector", selector)
    if ref.get("namespace"):
        causes += [
            invalid(f"{path}.namespace", ref["namespace"], text)
            for text in is_dns1035_label("a" + ref["namespace"])
        ]
    return causes + one_of(
        f"{path}.parameterNotFoundAction", ref.get("parameterNotFoundAction"), ("Allow", "Deny")
    )


def _actions(actions: list[str]) -> list[Cause]:
    path = "spec.validationActions"
    if not actions:
        return [required(path)]
    if len(actions) > len(ACTIONS):
        return [too_many(path, len(actions), len(ACTIONS))]
    causes: list[Cause] = []
    for index, action in enumerate(actions):
        if action not in ACTIONS:
            causes.append(not_supported(f"{path}[{index}]", action, ACTIONS))
        elif action in actions[:index]:
            causes.append(duplicate(f"{path}[{index}]", action))
    if "Deny" in actions and "Warn" in actions:
        causes.append(invalid(path, actions, _TWO_PLACES))
    return causes


_GROUP = "admissionregistration.k8s.io"
CREATE: dict[tuple[str, str], Callable[[Object], list[Cause]]] = {
    (_GROUP, "validatingadmissionpolicies"): _validating,
    (_GROUP, "validatingadmissionpolicybindings"): _binding(False),
    (_GROUP, "mutatingadmissionpolicies"): _mutating,
    (_GROUP, "mutatingadmissionpolicybindings"): _binding(True),
}
