"""Pruning: fields that the schema does not name are dropped, and reported.

A compiled pruner works in place and returns the dropped fields as issues, ``None`` when nothing went (the usual case;
then nothing was allocated either). ``x-kubernetes-preserve-unknown-fields`` keeps what is unknown from there on down,
though fields that have a schema are still pruned by it. At the root, and where ``x-kubernetes-embedded-resource`` says
that an object of its own begins, ``apiVersion``, ``kind`` and ``metadata`` always exist, and ``metadata`` has the
fields of every object.

Worked example: with ``{"spec": {"type": "object", "properties": {"a": {...}}}}`` the object ``{"spec": {"a": 1, "b": 2},
"x": 3}`` becomes ``{"spec": {"a": 1}}``, and the issues name ``spec.b`` and ``x``.

Source: Kubernetes' "Extend the Kubernetes API with CustomResourceDefinitions", section on field pruning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.schema.compile import Issue, visitor

Schema = dict[str, Any]
Pruner = Callable[[Any], "list[Issue] | None"]

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"


def pruner(schema: Schema, *, root: bool = False) -> Pruner | None:
    """The pruner of a structural schema; None when there is nothing it could ever drop."""
    if schema.get("type") == "array":
        return _list(schema)
    if schema.get("type") == "object" or PRESERVE in schema or root:
        return _object(schema, root or bool(schema.get(EMBEDDED)))
    return None


def _list(schema: Schema) -> Pruner | None:
    items = schema.get("items")
    inner = pruner(items) if isinstance(items, dict) else None
    if inner is None:
        return None

    def prune(value: Any) -> list[Issue] | None:
        if type(value) is not list:
            return None
        issues: list[Issue] | None = None
        for index, each in enumerate(value):
            found = inner(each)
            if found is not None:
                for issue in found:
                    issue.path = f"[{index}]{_joint(issue.path)}"
                issues = found if issues is None else issues + found
        return issues

    return prune


def _metadata(value: Any) -> list[Issue] | None:
    """Metadata has a type of its own wherever it stands; fields of it that are empty are as good as absent."""
    issues = visitor(OBJECT_META)(value, None, None)
    if issues is None or all(issue.unknown for issue in issues):
        for name in [name for name, each in value.items() if each in ("", [], {})]:
            del value[name]
    return issues


def _whole(value: Any) -> list[Issue] | None:
    return None


def _object(schema: Schema, resource: bool) -> Pruner | None:
    known: dict[str, Pruner] = {
        name: pruner(each) or _whole for name, each in (schema.get("properties") or {}).items()
    }
    if resource:
        known |= {"apiVersion": _whole, "kind": _whole, "metadata": _metadata}
    extra = schema.get("additionalProperties")
    others: Pruner | None = None  # None: unknown fields go
    if isinstance(extra, dict):
        others = pruner(extra) or _whole
    elif extra or schema.get(PRESERVE):
        others = _whole
    if others is _whole and all(each is _whole for each in known.values()):
        return None

    def prune(value: Any) -> list[Issue] | None:
        if type(value) is not dict:
            return None
        issues: list[Issue] | None = None
        dropped: list[str] | None = None
        for field, each in value.items():
            inner = known.get(field, others)
            if inner is None:
                issues = [*(issues or ()), Issue(field, unknown=True)]
                dropped = [*(dropped or ()), field]
            elif inner is not _whole:
                found = inner(each)
                if found is not None:
                    for issue in found:
                        issue.path = f"{field}{_joint(issue.path)}"
                    issues = found if issues is None else issues + found
        if dropped is not None:
            for field in dropped:
                del value[field]
        return issues

    return prune


def _joint(path: str) -> str:
    return path if not path or path[0] == "[" else "." + path
