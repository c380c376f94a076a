"""Types in admission policies: the status of a ValidatingAdmissionPolicy says what its expressions would do to them.

A policy is looked at once in each generation: the kinds its rules name are found, built-in ones in our table, custom
ones in their definitions, and its validations are checked against their types (:mod:`bamikube.api.cel.typecheck`).
``status.typeChecking`` is there as soon as that is done, with or without warnings.

Source: Kubernetes' "Validating Admission Policy" ("Type checking").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.controllers.shared import Controller, Shared, enqueue

Object = dict[str, Any]

POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
MANAGER = "validatingadmissionpolicy-status"


def plan(policy: Object, definitions: Iterable[Object]) -> Object | None:
    """The status to apply; None when the policy's generation has been looked at."""
    generation = int(policy["metadata"].get("generation") or 0)
    if generation <= int((policy.get("status") or {}).get("observedGeneration") or 0):
        return None
    # With it comes the CEL library, which a cluster without policies does not need.
    from bamikube.api.cel import typecheck

    spec, known = policy.get("spec") or {}, list(definitions)
    schemas: dict[tuple[str, str, str], Object] = {}
    for named in typecheck.resources_named(spec):
        of_rule = 0
        for group, version, plural in named:
            found = _by_plural(group, version, plural, known)
            if found is not None and of_rule < typecheck.MOST_KINDS:
                kind, schema = found
                schemas[(group, version, kind)] = schema
                of_rule += 1
    called = [
        (f"{group}/{version}, Kind={kind}", schemas[group, version, kind])
        for group, version, kind in sorted(schemas)
    ]
    warnings = typecheck.warnings(spec, called, _params(spec.get("paramKind") or {}, known))
    checked: Object = {"expressionWarnings": warnings} if warnings else {}
    return {"observedGeneration": generation, "typeChecking": checked}


def _by_plural(group: str, version: str, plural: str, definitions: list[Object]) -> tuple[str, Object] | None:
    from bamikube.api.cel import typecheck

    row = table.find(group, version, plural)
    if row is not None:
        return (row.kind, typecheck.builtin_schema(row.definition)) if row.definition else None
    for each in definitions:
        spec = each.get("spec") or {}
        names = spec.get("names") or {}
        if (spec.get("group"), names.get("plural")) == (group, plural):
            return _custom(names.get("kind") or "", version, spec)
    return None


def _params(kind: Object, definitions: list[Object]) -> Object | None:
    from bamikube.api.cel import typecheck

    row = table.by_kind(kind.get("apiVersion") or "", kind.get("kind") or "")
    if row is not None:
        return typecheck.builtin_schema(row.definition) if row.definition else None
    group, _, version = str(kind.get("apiVersion") or "").partition("/")
    for each in definitions:
        spec = each.get("spec") or {}
        if (spec.get("group"), (spec.get("names") or {}).get("kind")) == (group, kind.get("kind")):
            found = _custom(kind.get("kind") or "", version, spec)
            return found[1] if found is not None else None
    return None


def _custom(kind: str, version: str, spec: Object) -> tuple[str, Object] | None:
    from bamikube.api.cel import typecheck

    for each in spec.get("versions") or ():
        if each.get("name") == version and each.get("served"):
            schema = (each.get("schema") or {}).get("openAPIV3Schema") or {}
            return kind, typecheck.custom_schema(schema)
    return None


class AdmissionPolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status-controller"
    workers = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.policies = shared.informers.of(POLICIES)
        self.definitions = shared.informers.of(DEFINITIONS)
        self.policies.on_change(enqueue(self))

    async def sync(self, key: str) -> float | None:
        policy = self.policies.get(key)
        if policy is None or "deletionTimestamp" in policy["metadata"]:
            return None
        await self.definitions.synced.wait()
        status = plan(policy, self.definitions.items())
        if status is None:
            return None
        applied = {
            "apiVersion": policy.get("apiVersion") or "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": key},
            "status": status,
        }
        try:
            await self.client.patch(
                POLICIES,
                key,
                applied,
                kind="apply",
                subresource="status",
                field_manager=MANAGER,
                force=True,
            )
        except ApiError as error:
            if error.code != 404:
                raise
        return None
