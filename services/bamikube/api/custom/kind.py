"""What a row made from a CustomResourceDefinition carries: one version of a custom resource, compiled.

::

    body -> shape (prune, metadata) -> default -> admission -> validate -> stored form (family's storage version)
    stored bytes -> revive (storage version's name, pruning, defaults) -> the cache

Each step is compiled when it is first used and kept as long as the definition's spec does not change, so a cluster
with a hundred definitions pays for those it uses. ``rules`` are those that a schema writes down in CEL
(``x-kubernetes-validations``); they are asked when all else is well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bamikube.api import fields
from bamikube.api.cel.presence import has_rules
from bamikube.api.columns.model import Printer
from bamikube.api.custom import embedded, lists, values
from bamikube.api.custom.defaulting import defaulter
from bamikube.api.custom.jsonpath import plain_fields
from bamikube.api.custom.printing import printer
from bamikube.api.custom.pruning import pruner
from bamikube.api.errors import Cause
from bamikube.api.schema.compile import Issue

if TYPE_CHECKING:
    from bamikube.api.cel.rules import Judge
    from bamikube.api.resources import Resource

Object = dict[str, Any]

# Faults after which rules are not asked: they could not rely on the shape of the object.
_BLOCKING = ("FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a scale's numbers stand in the object, as names of fields. ``selector`` may be empty."""

    spec_replicas: tuple[str, ...]
    status_replicas: tuple[str, ...]
    selector: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Family:
    """One definition: what its versions share.

    ``digest`` stands for its spec. ``revision`` is the definition's own resourceVersion; writes of its objects are guarded by it. ``rows`` are the
    rows of all versions by name, ``storage`` the one whose form objects are kept in.
    ``indexed`` are the selectable fields of all versions, ``deprecations`` the warnings of deprecated ones.
    """

    name: str
    uid: str
    digest: str
    revision: int
    established: bool
    terminating: bool
    storage_version: str
    strategy: str = "None"
    webhook: Object = field(default_factory=dict)
    rows: dict[str, Resource] = field(default_factory=dict)
    served: tuple[Resource, ...] = ()
    compiled: dict[str, Compiled] = field(default_factory=dict)
    indexed: tuple[str, ...] = ()
    deprecations: dict[str, str] = field(default_factory=dict)

    @property
    def storage(self) -> Resource:
        return self.rows[self.storage_version]

    @property
    def calls_out(self) -> bool:
        """Whether somebody else converts between its versions."""
        return self.strategy == "Webhook" and len(self.rows) > 1


class Compiled:
    """The steps of one version, from its entry in ``spec.versions``."""

    def __init__(self, version: Object) -> None:
        self.version = version
        self.schema: Object = (version.get("schema") or {}).get("openAPIV3Schema") or {}

    @cached_property
    def prune(self) -> Callable[[Any], list[Issue] | None] | None:
        return pruner(self.schema, root=True)

    @cached_property
    def default(self) -> Callable[[Any], bool] | None:
        return defaulter(self.schema)

    @cached_property
    def check(self) -> values.Check | None:
        return values.compiled(self.schema)

    @cached_property
    def lists(self) -> lists.Check | None:
        return lists.compiled(self.schema)

    @cached_property
    def embedded(self) -> embedded.Check | None:
        return embedded.compiled(self.schema)

    @cached_property
    def type(self) -> fields.Object:
        """How the fields of its objects are owned."""
        return fields.object_type(self.schema)

    @cached_property
    def rules(self) -> Judge | None:
        if not has_rules(self.schema):
            return None
        from bamikube.api.cel.rules import compiled  # the CEL library is loaded by the first rule

        return compiled(self.schema)

    @cached_property
    def printer(self) -> Printer:
        return printer(self.version.get("additionalPrinterColumns"))

    @cached_property
    def scale(self) -> ScalePaths | None:
        scale = (self.version.get("subresources") or {}).get("scale")
        if not scale:
            return None
        paths = [
            scale.get(name) or "" for name in ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")
        ]
        return ScalePaths(*(tuple(plain_fields(path) or ()) for path in paths))


class CustomKind:
    """One version of a custom resource, as its row knows it."""

    __slots__ = ("compiled", "family", "list_kind")

    def __init__(self, family: Family, compiled: Compiled, list_kind: str) -> None:
        self.family = family
        self.compiled = compiled
        self.list_kind = list_kind

    def __repr__(self) -> str:
        """Names the state of the definition: what is published is kept by it."""
        return f"CustomKind({self.family.uid}/{self.family.digest}/{self.list_kind})"

    @property
    def quick(self) -> bool:
        """Whether the cache holds the very bytes of an answer, and nothing has to be said beside them."""
        return not self.family.calls_out and not self.deprecation

    @property
    def deprecation(self) -> str:
        """The warning of a deprecated version, "" for any other."""
        return self.family.deprecations.get(self.compiled.version["name"], "")

    # -- into the server -----------------------------------------------------------------------------------------

    def shape(self, obj: Object) -> list[Issue]:
        """Drop what the schema does not know, in place; issues name what went and what is wrong with metadata."""
        prune = self.compiled.prune
        return (prune(obj) if prune is not None else None) or []

    def default(self, obj: Object) -> None:
        fill = self.compiled.default
        if fill is not None:
            fill(obj)

    def validate(self, obj: Object, old: Object | None = None, kept: list[str] | None = None) -> list[Cause]:
        """What is wrong with an object, or with a change from ``old``. What was wrong before and stayed, may stay: what
        rules say of it goes to ``kept``."""
        compiled = self.compiled
        causes: list[Cause] = []
        if compiled.check is not None:
            faults = compiled.check(obj)
            if faults and old is not None:
                faults = values.changed_only(compiled.schema, faults, obj, old)
            causes += values.causes_of(faults or ())
        if compiled.embedded is not None:
            causes += compiled.embedded(obj, "")
        if compiled.lists is not None:
            found = compiled.lists(obj, "")
            if found and (old is None or not compiled.lists(old, "")):
                causes += found
        if compiled.rules is not None:
            if any(cause.reason in _BLOCKING for cause in causes):
                causes.append(Cause("FieldValueInvalid", f'Invalid value: "null": {_NOT_CHECKED}', "<nil>"))
            else:
                causes += compiled.rules.check(obj, old, kept)
        return causes

    # -- out of the store ----------------------------------------------------------------------------------------

    def revive(self, obj: Object) -> bool:
        """Give a stored object the form it has today, in place: this version's name, its fields, its defaults.

        Objects that only a webhook can convert keep their version. Says whether anything changed.
        """
        changed = False
        wanted = f"{self.family.storage.group}/{self.compiled.version['name']}"
        if obj.get("apiVersion") != wanted:
            if self.family.calls_out:
                return False
            obj["apiVersion"] = wanted
            changed = True
        if self.compiled.prune is not None and self.compiled.prune(obj):
            changed = True
        if self.compiled.default is not None and self.compiled.default(obj):
            changed = True
        return changed
