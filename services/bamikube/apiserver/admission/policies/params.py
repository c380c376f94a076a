"""The parameters of a policy: which objects a binding's ``paramRef`` means for a request.

Source: Kubernetes' "Validating Admission Policy", parameter resources and per-namespace parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.api import conversion, selectors
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.policies.held import Policy, Rows
from bamikube.apiserver.registry.reader import Reader

Object = dict[str, Any]


class NoParams(Exception):
    """The binding's parameters cannot be had. The text says why."""


def params_of(
    policy: Policy, ref: Mapping[str, Any] | None, ctx: AdmissionContext, reader: Reader, rows: Rows
) -> list[Object | None]:
    """One object for each evaluation; ``[None]`` for a policy or binding without parameters. Empty: there are none, and
    the binding does not mind. Raises NoParams."""
    kind = policy.param_kind
    if kind is None or ref is None:
        return [None]
    row = _row(kind, rows)
    namespace = ""
    if row.namespaced:
        namespace = ref.get("namespace") or ctx.namespace
        if not namespace:
            raise NoParams(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
    elif ref.get("namespace"):
        raise NoParams("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    found = _find(row, ref, namespace, reader)
    if not found and ref.get("parameterNotFoundAction") != "Allow":
        raise NoParams("no params found for policy binding with `Deny` parameterNotFoundAction")
    return [_shown(row, one) for one in found]


def _row(kind: Mapping[str, Any], rows: Rows) -> Resource:
    version, name = kind.get("apiVersion"), kind.get("kind")
    for row in rows():
        if row.api_version == version and row.kind == name and not row.virtual:
            return row
    raise NoParams(f"failed to find resource referenced by paramKind: '{version}, Kind={name}'")


def _find(row: Resource, ref: Mapping[str, Any], namespace: str, reader: Reader) -> list[Object]:
    if ref.get("name"):
        one = reader.get(row.storage_key, namespace, ref["name"])
        return [] if one is None else [one]
    selector = selectors.from_object(ref.get("selector") or {})
    return [one for one in reader.list(row.storage_key, namespace) if selector.matches_object(one)]


def _shown(row: Resource, obj: Object) -> Object:
    return conversion.from_storage(row, obj) if row.version != (row.storage_version or row.version) else obj
