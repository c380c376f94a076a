"""Rules of CustomResourceDefinitions.

What a schema may say is judged by :mod:`bamikube.api.custom.structural`; here is the rest: names, versions, conversion,
subresources, columns, selectable fields, and what may never change.

Source: the API reference of v1.34, and the wording of ``apiextensions/validation``.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.custom import jsonpath, naming
from bamikube.api.errors import Cause
from bamikube.api.names import is_dns1035_label, is_dns1123_subdomain
from bamikube.api.predicates.conditions import is_true
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    immutable,
    invalid,
    not_supported,
    required,
    too_many,
)

Object = dict[str, Any]

_APPROVED = "api-approved.kubernetes.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SELECTABLE = ("string", "boolean", "integer")
MAX_SELECTABLE = 8


def validate(obj: Object) -> list[Cause]:
    """All rules of a new definition, and of a changed one."""
    spec, metadata = obj.get("spec") or {}, obj.get("metadata") or {}
    names, group = spec.get("names") or {}, spec.get("group") or ""
    causes: list[Cause] = []
    if metadata.get("name") != f"{names.get('plural') or ''}.{group}":
        causes.append(
            invalid("metadata.name", metadata.get("name") or "", 'must be spec.names.plural+"."+spec.group')
        )
    causes += _approval(metadata, group)
    if not group:
        causes.append(required("spec.group"))
    elif messages := is_dns1123_subdomain(group):
        causes.append(invalid("spec.group", group, ",".join(messages)))
    elif "." not in group:
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope") or ""
    if not scope:
        causes.append(required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        causes.append(not_supported("spec.scope", scope, ["Cluster", "Namespaced"]))
    causes += _versions(spec)
    for name in ("plural", "singular", "kind", "listKind"):
        if not names.get(name):
            causes.append(required(f"spec.names.{name}"))
    causes += _names(names, "spec.names")
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        causes.append(invalid("spec.preserveUnknownFields", True, text))
    causes += _conversion(spec.get("conversion") or {}, "spec.conversion")
    return causes + _names((obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")


def validate_change(new: Object, old: Object) -> list[Cause]:
    """What may not change. Group and plural are the name of the resource; scope and kind are fixed once it is served."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    names, known = after.get("names") or {}, before.get("names") or {}
    causes: list[Cause] = []
    if is_true(old, "Established"):
        causes += immutable("spec.scope", after.get("scope"), before.get("scope"))
        causes += immutable("spec.names.kind", names.get("kind"), known.get("kind"))
    causes += immutable("spec.group", after.get("group"), before.get("group"))
    causes += immutable("spec.names.plural", names.get("plural"), known.get("plural"))
    return causes + _stored(new)


def validate_status(obj: Object, old: Object) -> list[Cause]:
    """An update of the status: which versions may still lie in the store must be known and include the current one."""
    return _stored(obj) + _names((obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")


def _stored(obj: Object) -> list[Cause]:
    stored = (obj.get("status") or {}).get("storedVersions") or []
    versions = (obj.get("spec") or {}).get("versions") or []
    known = {each.get("name") for each in versions}
    storage = next((each.get("name") for each in versions if each.get("storage")), "")
    field = "status.storedVersions"
    causes = []
    if not stored:
        return [invalid(field, stored, "must have at least one stored version")]
    for index, name in enumerate(stored):
        if name not in known:
            causes.append(invalid(f"{field}[{index}]", name, "must appear in spec.versions"))
    if storage and storage not in stored:
        causes.append(invalid(field, stored, f"must have the storage version {storage}"))
    return causes


def _approval(metadata: Object, group: str) -> list[Cause]:
    if not naming.protected(group):
        return []
    value = (metadata.get("annotations") or {}).get(_APPROVED, "")
    field = "metadata.annotations[api-approved.kubernetes.io]"
    if not value:
        text = (
            f'protected groups must have approval annotation "{_APPROVED}", '
            "see https://github.com/kubernetes/enhancements/pull/1111"
        )
        return [required(field, text)]
    if not value.startswith(("unapproved", "http://", "https://")):
        text = (
            'protected groups must have approval annotation "api-approved.kubernetes.io" with either a URL or a reason '
            'starting with "unapproved", see https://github.com/kubernetes/enhancements/pull/1111'
        )
        return [invalid(field, value, text)]
    return []


def _names(names: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []

    def label(field: str, value: str, before: str = "") -> None:
        if value and (messages := is_dns1035_label(value.lower() if before else value)):
            causes.append(invalid(f"{path}.{field}", value, before + ",".join(messages)))

    label("plural", names.get("plural") or "")
    label("singular", names.get("singular") or "")
    for field in ("kind", "listKind"):
        label(field, names.get(field) or "", "may have mixed case, but should otherwise match: ")
    for field in ("shortNames", "categories"):
        for index, each in enumerate(names.get(field) or ()):
            if messages := is_dns1035_label(each):
                causes.append(invalid(f"{path}.{field}[{index}]", each, ",".join(messages)))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        causes.append(invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"))
    return causes


def _versions(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    versions = spec.get("versions") or []
    seen: set[str] = set()
    unique = True
    for index, version in enumerate(versions):
        path, name = f"spec.versions[{index}]", version.get("name") or ""
        unique = unique and name not in seen
        seen.add(name)
        if messages := is_dns1035_label(name):
            causes.append(invalid(f"{path}.name", name, ",".join(messages)))
        if version.get("deprecationWarning") and not version.get("deprecated"):
            text = "can only be set for deprecated versions"
            causes.append(invalid(f"{path}.deprecationWarning", version["deprecationWarning"], text))
        causes += _version(version, path)
    if not unique:
        causes.append(
            invalid(
                "spec.versions", [each.get("name") for each in versions], "must contain unique version names"
            )
        )
    if sum(1 for each in versions if each.get("storage")) != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(invalid("spec.versions", [each.get("name") for each in versions], text))
    return causes


def _version(version: Object, path: str) -> list[Cause]:
    # Imported late: the rules of schemas are made of the checks of values, which use this package's words.
    from bamikube.api.custom import structural

    causes: list[Cause] = []
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        causes.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    else:
        found = structural.validate(schema, f"{path}.schema.openAPIV3Schema")
        causes += sorted(found, key=lambda cause: (cause.field, cause.message))
    causes += _subresources(version.get("subresources") or {}, f"{path}.subresources")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        causes += _column(column, f"{path}.additionalPrinterColumns[{index}]")
    if not causes:
        causes += _selectable(version.get("selectableFields") or [], schema or {}, f"{path}.selectableFields")
    return causes


def _subresources(subresources: Object, path: str) -> list[Cause]:
    scale = subresources.get("scale")
    if scale is None:
        return []
    causes: list[Cause] = []
    rules = (
        ("specReplicasPath", (".spec.",), "should be a json path under .spec", True),
        ("statusReplicasPath", (".status.",), "should be a json path under .status", True),
        (
            "labelSelectorPath",
            (".status.", ".spec."),
            "should be a json path under either .status or .spec",
            False,
        ),
    )
    for name, places, text, needed in rules:
        value = scale.get(name) or ""
        field = f"{path}.scale.{name}"
        if not value:
            causes += [required(field)] if needed else []
        elif not value.startswith("."):
            causes.append(invalid(field, value, "must be a simple json path starting with ."))
        elif jsonpath.plain_fields(value) is None:
            causes.append(invalid(field, value, "must be a json path in the dot notation"))
        elif not value.startswith(places):
            causes.append(invalid(field, value, text))
    return causes


def _column(column: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not column.get("name"):
        causes.append(required(f"{path}.name"))
    kind, form = column.get("type") or "", column.get("format") or ""
    if not kind:
        causes.append(required(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
    elif kind not in _COLUMN_TYPES:
        causes.append(invalid(f"{path}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
    if form and form not in _COLUMN_FORMATS:
        causes.append(invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    where = column.get("jsonPath") or ""
    if not where:
        causes.append(required(f"{path}.jsonPath"))
    elif not where.startswith("."):
        causes.append(invalid(f"{path}.jsonPath", where, "must be a simple json path starting with ."))
    else:
        try:
            jsonpath.parse(where)
        except jsonpath.PathError as error:
            causes.append(invalid(f"{path}.jsonPath", where, f"is an invalid JSONPath: {error}"))
    return causes


def _selectable(fields: list[Object], schema: Object, path: str) -> list[Cause]:
    if len(fields) > MAX_SELECTABLE:
        return [too_many(path, len(fields), MAX_SELECTABLE)]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, each in enumerate(fields):
        where, field = each.get("jsonPath") or "", f"{path}[{index}].jsonPath"
        if not where:
            causes.append(required(field))
            continue
        if where in seen:
            causes.append(duplicate(field, where))
            continue
        seen.add(where)
        steps = jsonpath.plain_fields(where)
        if steps is None:
            causes.append(
                invalid(field, where, "is an invalid path: must be a simple json path starting with .")
            )
            continue
        if steps[0] == "metadata":
            causes.append(invalid(field, where, "must not point to fields in metadata"))
            continue
        target: Object | None = schema
        for step in steps:
            target = (target.get("properties") or {}).get(step) if target is not None else None
        if target is None:
            causes.append(invalid(field, where, "is an invalid path: does not refer to a valid field"))
        elif target.get("type") not in _SELECTABLE:
            text = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            causes.append(invalid(field, where, text))
    return causes


def _conversion(conversion: Object, path: str) -> list[Cause]:
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook") or {}
    if not strategy:
        return [required(f"{path}.strategy")]
    if strategy not in ("None", "Webhook"):
        return [not_supported(f"{path}.strategy", strategy, ["None", "Webhook"])]
    if strategy == "None":
        text = "should not be set when strategy is not set to Webhook"
        return [forbidden(f"{path}.webhook", text)] if webhook else []
    causes: list[Cause] = []
    client = webhook.get("clientConfig")
    if client is None:
        causes.append(required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook"))
    else:
        url, service = client.get("url"), client.get("service")
        where = f"{path}.webhookClientConfig"
        if (url is None) == (service is None):
            causes.append(required(where, "exactly one of url or service is required"))
        elif url is not None and not url.startswith("https://"):
            causes.append(invalid(f"{where}.url", url, "'https' is the only allowed URL scheme"))
        elif service is not None:
            for name in ("name", "namespace"):
                if not service.get(name):
                    causes.append(required(f"{where}.service.{name}", f"service {name} is required"))
    versions = webhook.get("conversionReviewVersions") or []
    if not versions:
        causes.append(required(f"{path}.conversionReviewVersions"))
    elif not {"v1", "v1beta1"} & set(versions):
        text = "must include at least one of v1, v1beta1"
        causes.append(invalid(f"{path}.conversionReviewVersions", versions, text))
    return causes


_KEY = ("apiextensions.k8s.io", "customresourcedefinitions")
CREATE = {_KEY: validate}
UPDATE = {_KEY: validate_change}
STATUS = {_KEY: validate_status}
