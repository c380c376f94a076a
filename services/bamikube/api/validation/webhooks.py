"""Rules of webhook configurations: who is called, where, about what.

:func:`client_config` and :func:`rule_with_operations` also judge conversion webhooks and admission policies.

Source: the API reference (admissionregistration.k8s.io/v1); the texts are those of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1035_label, is_dns1123_subdomain, is_qualified_name
from bamikube.api.validation.rules import (
    duplicate,
    invalid,
    label_selector,
    not_supported,
    one_of,
    required,
    too_many,
)

OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
REVIEW_VERSIONS = ("v1", "v1beta1")
SIDE_EFFECTS = ("None", "NoneOnDryRun")
MOST_CONDITIONS = 64
_FORM = "; desired format: https://host[/path]"


def _configuration(mutating: bool) -> Callable[[dict[str, Any]], list[Cause]]:
    def validate(obj: dict[str, Any]) -> list[Cause]:
        causes: list[Cause] = []
        names: set[str] = set()
        for index, hook in enumerate(obj.get("webhooks") or ()):
            path = f"webhooks[{index}]"
            causes += _hook(path, hook, mutating)
            name = hook.get("name") or ""
            if name and name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        return causes

    return validate


def _hook(path: str, hook: dict[str, Any], mutating: bool) -> list[Cause]:
    causes = qualified_domain(f"{path}.name", hook.get("name") or "")
    for index, rule in enumerate(hook.get("rules") or ()):
        causes += rule_with_operations(f"{path}.rules[{index}]", rule)
    causes += one_of(f"{path}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"), needed=False)
    causes += one_of(f"{path}.matchPolicy", hook.get("matchPolicy"), ("Equivalent", "Exact"), needed=False)
    effects = hook.get("sideEffects")
    if effects is None:
        causes.append(required(f"{path}.sideEffects", f"must specify one of {', '.join(SIDE_EFFECTS)}"))
    elif effects not in SIDE_EFFECTS:
        causes.append(not_supported(f"{path}.sideEffects", effects, SIDE_EFFECTS))
    causes += review_versions(f"{path}.admissionReviewVersions", hook.get("admissionReviewVersions") or [])
    if mutating:
        policy = hook.get("reinvocationPolicy")
        causes += one_of(f"{path}.reinvocationPolicy", policy, ("IfNeeded", "Never"), needed=False)
    causes += label_selector(f"{path}.namespaceSelector", hook.get("namespaceSelector"))
    causes += label_selector(f"{path}.objectSelector", hook.get("objectSelector"))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        causes.append(invalid(f"{path}.timeoutSeconds", seconds, text))
    causes += client_config(f"{path}.clientConfig", hook.get("clientConfig") or {})
    conditions, field = hook.get("matchConditions") or [], f"{path}.matchConditions"
    causes += match_conditions(field, conditions)
    if conditions:
        from bamikube.api.cel.policies import (
            compile_conditions,
        )  # the CEL library is loaded by the first expression

        causes += compile_conditions(conditions, field, webhook=True)[1]
    return causes


def qualified_domain(field: str, value: str) -> list[Cause]:
    """A name such as ``judge.example.com``."""
    if not value:
        return [required(field)]
    causes = [invalid(field, value, message) for message in is_dns1123_subdomain(value)]
    if not causes and value.count(".") < 2:
        causes.append(
            invalid(field, value, "should be a domain with at least three segments separated by dots")
        )
    return causes


def review_versions(field: str, versions: Sequence[str]) -> list[Cause]:
    """Versions of AdmissionReview, or ConversionReview: at least one of those we speak."""
    known = ", ".join(REVIEW_VERSIONS)
    if not versions:
        return [required(field, f"must specify one of {known}")]
    causes: list[Cause] = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            causes.append(invalid(f"{field}[{index}]", version, "duplicate version"))
            continue
        causes += [invalid(f"{field}[{index}]", version, message) for message in is_dns1035_label(version)]
    if not any(version in REVIEW_VERSIONS for version in versions):
        causes.append(invalid(field, list(versions), f"must include at least one of {known}"))
    return causes


def client_config(field: str, config: dict[str, Any]) -> list[Cause]:
    """``url`` or ``service``, one of them."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(field, "exactly one of url or service is required")]
    if url is not None:
        return _url(f"{field}.url", url)
    return service_reference(f"{field}.service", service or {})


def _url(field: str, text: str) -> list[Cause]:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return [required(field, f"url must be a valid URL: {error}{_FORM}")]
    causes: list[Cause] = []
    if parts.scheme != "https":
        causes.append(invalid(field, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not parts.hostname:
        causes.append(invalid(field, parts.netloc, f"host must be specified{_FORM}"))
    if parts.username is not None:
        causes.append(invalid(field, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        causes.append(invalid(field, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        causes.append(invalid(field, parts.query, "query parameters are not permitted in the URL"))
    return causes


def service_reference(field: str, service: dict[str, Any]) -> list[Cause]:
    """Name, namespace, port and path of a service."""
    causes: list[Cause] = []
    if not service.get("name"):
        causes.append(required(f"{field}.name", "service name is required"))
    if not service.get("namespace"):
        causes.append(required(f"{field}.namespace", "service namespace is required"))
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        causes.append(
            invalid(f"{field}.port", port, "port is not valid: must be between 1 and 65535, inclusive")
        )
    return causes + _path(f"{field}.path", service.get("path") or "")


def _path(field: str, path: str) -> list[Cause]:
    if path in ("", "/"):
        return []
    if path == "//":
        return [invalid(field, path, "segment[0] may not be empty")]
    if not path.startswith("/"):
        return [invalid(field, path, "must start with a '/'")]
    causes: list[Cause] = []
    for index, segment in enumerate(path[1:].removesuffix("/").split("/")):
        if not segment:
            causes.append(invalid(field, path, f"segment[{index}] may not be empty"))
            continue
        causes += [
            invalid(field, path, f"segment[{index}]: {message}") for message in is_dns1123_subdomain(segment)
        ]
    return causes


def rule_with_operations(path: str, rule: dict[str, Any]) -> list[Cause]:
    """Operations, groups, versions, resources and scope."""
    causes: list[Cause] = []
    operations = rule.get("operations") or []
    if not operations:
        causes.append(required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        causes.append(_alone(f"{path}.operations", operations, "*", "operations"))
    for index, operation in enumerate(operations):
        if operation not in OPERATIONS:
            causes.append(not_supported(f"{path}.operations[{index}]", operation, OPERATIONS))
    for name, words in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(name) or []
        if not values:
            causes.append(required(f"{path}.{name}"))
        if len(values) > 1 and "*" in values:
            causes.append(_alone(f"{path}.{name}", values, "*", words))
        if name == "apiVersions":
            causes += [required(f"{path}.{name}[{index}]") for index, value in enumerate(values) if not value]
    causes += _resources(f"{path}.resources", rule.get("resources") or [])
    return causes + one_of(f"{path}.scope", rule.get("scope"), ("*", "Cluster", "Namespaced"), needed=False)


def _alone(field: str, values: Sequence[str], wildcard: str, words: str) -> Cause:
    return invalid(field, list(values), f"if '{wildcard}' is present, must not specify other {words}")


def _resources(field: str, resources: Sequence[str]) -> list[Cause]:
    if not resources:
        return [required(field)]
    causes: list[Cause] = []
    whole = {one.removesuffix("/*") for one in resources if one.endswith("/*")}
    any_of = {one.removeprefix("*/") for one in resources if one.startswith("*/")}
    for index, resource in enumerate(resources):
        path = f"{field}[{index}]"
        if not resource:
            causes.append(required(path))
        if resource == "*/*" and len(resources) > 1:
            causes.append(_alone(field, resources, "*/*", "resources"))
        plural, slash, subresource = resource.partition("/")
        if subresource and subresource != "*" and plural in whole - {"*"}:
            text = f"if '{plural}/*' is present, must not specify {resource}"
            causes.append(invalid(path, resource, text))
        if slash and plural != "*" and subresource in any_of - {"*"}:
            text = f"if '*/{subresource}' is present, must not specify {resource}"
            causes.append(invalid(path, resource, text))
    if "*" in resources and any("/" not in one and one != "*" for one in resources):
        text = "if '*' is present, must not specify other resources without subresources"
        causes.append(invalid(field, list(resources), text))
    return causes


def match_conditions(field: str, conditions: Sequence[dict[str, Any]]) -> list[Cause]:
    """Names and number of match conditions, and that there is an expression."""
    causes: list[Cause] = []
    if len(conditions) > MOST_CONDITIONS:
        causes.append(too_many(field, len(conditions), MOST_CONDITIONS))
    names: set[str] = set()
    for index, condition in enumerate(conditions):
        path, name = f"{field}[{index}]", condition.get("name") or ""
        if not (condition.get("expression") or "").strip():
            causes.append(required(f"{path}.expression"))
        if not name:
            causes.append(required(f"{path}.name"))
        else:
            causes += [invalid(f"{path}.name", name, message) for message in is_qualified_name(name)]
            if name in names:
                causes.append(duplicate(f"{path}.name", name))
        names.add(name)
    return causes


_GROUP = "admissionregistration.k8s.io"
CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    (_GROUP, "mutatingwebhookconfigurations"): _configuration(True),
    (_GROUP, "validatingwebhookconfigurations"): _configuration(False),
}
