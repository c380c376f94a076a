"""From a CustomResourceDefinition to the rows that serve its objects."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from bamikube.api.custom.jsonpath import plain_fields
from bamikube.api.custom.kind import Compiled, CustomKind, Family
from bamikube.api.predicates.conditions import is_true
from bamikube.api.resources import Resource

Object = dict[str, Any]


def family_of(definition: Object, before: Family | None = None) -> Family:
    """The rows of a definition. What ``before`` has compiled is kept while the spec is the same."""
    metadata, spec = definition["metadata"], definition["spec"]
    conversion = spec.get("conversion") or {}
    family = Family(
        name=metadata["name"],
        uid=metadata.get("uid") or "",
        digest=hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest(),
        revision=int(metadata.get("resourceVersion") or 0),
        established=is_true(definition, "Established"),
        terminating=bool(metadata.get("deletionTimestamp")),
        storage_version=next(version["name"] for version in spec["versions"] if version.get("storage")),
        strategy=conversion.get("strategy") or "None",
        webhook=conversion.get("webhook") or {},
    )
    same = before is not None and (before.uid, before.digest) == (family.uid, family.digest)
    for version in spec["versions"]:
        name = version["name"]
        compiled = before.compiled.get(name) if same and before is not None else None
        family.compiled[name] = compiled if compiled is not None else Compiled(version)
    indexed = dict.fromkeys(path for version in spec["versions"] for path in selectable(version))
    family.indexed = tuple(indexed)
    family.deprecations = {
        version["name"]: version.get("deprecationWarning")
        or f"{spec['group']}/{version['name']} {spec['names']['kind']} is deprecated"
        for version in spec["versions"]
        if version.get("deprecated")
    }
    for version in spec["versions"]:
        family.rows[version["name"]] = _row(definition, version, family.storage_version, family)
    if family.established:
        served = {version["name"] for version in spec["versions"] if version.get("served")}
        family.served = tuple(row for name, row in family.rows.items() if name in served)
    return family


def selectable(version: Object) -> list[str]:
    """The selectable fields of a version as field selectors name them: ``spec.color`` for ``.spec.color``."""
    paths = [each.get("jsonPath") or "" for each in version.get("selectableFields") or ()]
    return [path.removeprefix(".") for path in paths if plain_fields(path)]


def _row(definition: Object, version: Object, storage: str, family: Family) -> Resource:
    spec = definition["spec"]
    accepted = (definition.get("status") or {}).get("acceptedNames") or {}
    names = {**spec["names"], **{key: value for key, value in accepted.items() if value}}
    if accepted.get("plural"):  # whatever was not accepted is not served: a short name of somebody else
        names["shortNames"] = accepted.get("shortNames") or []
    namespaced = spec.get("scope") == "Namespaced"
    subresources = [
        name for name in ("scale", "status") if (version.get("subresources") or {}).get(name) is not None
    ]
    base = ("metadata.name", "metadata.namespace") if namespaced else ("metadata.name",)
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=spec["names"]["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=namespaced,
        definition="",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(subresources),
        storage_version=storage,
        selectable_fields=base + tuple(selectable(version)),
        custom=CustomKind(
            family, family.compiled[version["name"]], names.get("listKind") or f"{names['kind']}List"
        ),
    )


def serves_alike(new: Family, old: Family) -> bool:
    """Whether two states of a definition serve the same rows, so that nobody need be told."""

    def facts(family: Family) -> tuple[Any, ...]:
        rows = tuple(
            (row.version, row.kind, row.singular, row.short_names, row.categories, row.list_kind)
            for row in family.rows.values()
        )
        return (family.uid, family.digest, family.established, family.terminating, rows)

    return facts(new) == facts(old)
