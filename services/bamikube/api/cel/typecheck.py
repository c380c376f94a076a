"""What a validating policy's expressions would do to the types they meet: warnings, for its status.

A policy is compiled with ``object`` of any type, since what it will be asked about is open. Here its validations are
checked again for each kind that its rules name in full, with ``object`` of that kind's type::

    object.spec.replicas > '1'      apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for
                                    '_>_' applied to '(int, string)' ...

A warning changes nothing of what the policy does. Rules with wildcards name no kind; of each rule ten kinds are looked
at, at most. Where a schema leaves open what may stand, nothing is warned of.

Source: Kubernetes' "Validating Admission Policy" ("Type checking").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bamikube.api.cel.environment import Environment, ObjectType
from bamikube.api.cel.policies import OBJECTS, VARIABLES, variables_known
from bamikube.api.cel.schemas import Decl, declare, object_types
from bamikube.api.cel.types import DYN, CompileError, Type
from bamikube.api.schema import definition
from bamikube.api.schema.source import INT_OR_STRING, REF

Schema = dict[str, Any]
Spec = Mapping[str, Any]

MOST_KINDS = 10  # of one rule
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_OPEN: Schema = {"x-kubernetes-int-or-string": True}  # declared as dyn


def resources_named(spec: Spec) -> list[list[tuple[str, str, str]]]:
    """Group, version and plural of what each rule names in full, in order."""
    named = []
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = sorted(rule.get("apiGroups") or ()), sorted(rule.get("apiVersions") or ())
        if any("*" in each for each in (*groups, *versions)):
            continue
        plurals = sorted(each for each in rule.get("resources") or () if "*" not in each and "/" not in each)
        named.append([(g, v, plural) for g in groups for v in versions for plural in plurals])
    return named


def builtin_schema(name: str) -> Schema:
    """A definition with its references written out, open where it refers to itself."""
    return _written_out({"$ref": f"{REF}{name}"}, ())


def custom_schema(schema: Schema) -> Schema:
    """The schema of a custom resource's version, with what every object has."""
    properties = {
        **(schema.get("properties") or {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": f"{REF}{OBJECT_META}"},
    }
    return _written_out({**schema, "type": "object", "properties": properties}, ())


def _written_out(schema: Schema, seen: tuple[str, ...]) -> Schema:
    name = str(schema.get("$ref") or "").removeprefix(REF)
    if name:
        if name in seen or name == INT_OR_STRING:
            return _OPEN
        return _written_out(definition(name), (*seen, name))
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("format") == "int-or-string":
        return _OPEN
    properties, extra, items = (schema.get(key) for key in ("properties", "additionalProperties", "items"))
    if schema.get("type") == "object":
        if properties:
            made = {key: _written_out(each, seen) for key, each in properties.items()}
            return {**schema, "properties": made}
        return (
            {**schema, "additionalProperties": _written_out(extra, seen)}
            if isinstance(extra, dict)
            else _OPEN
        )
    if schema.get("type") == "array":
        return {**schema, "items": _written_out(items, seen)} if isinstance(items, dict) else _OPEN
    return schema if schema.get("type") else _OPEN


def warnings(
    spec: Spec, schemas: Sequence[tuple[str, Schema]], params: Schema | None = None
) -> list[dict[str, str]]:
    """``expressionWarnings`` of a policy. ``schemas`` come with what their kind is called in a warning
    (``apps/v1, Kind=Deployment``); ``params`` is the schema of the policy's parameters, None when nothing is known."""
    checks = [(called, _checker(spec, schema, params)) for called, schema in schemas]
    found: list[dict[str, str]] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = str(validation.get(field) or "").strip()
            if not text:
                continue
            told = [f"{called}: {wrong}\n" for called, check in checks if (wrong := check(text))]
            if told:
                place = f"spec.validations[{index}].{field}"
                found.append({"fieldRef": place, "warning": "\n".join(told)})
    return found


def _with_keywords(declared: ObjectType) -> ObjectType:
    """Fields named like a word of the language (``namespace``) may be selected by that name as well."""
    plain = {
        name[2:-2]: kind
        for name, kind in declared.fields.items()
        if name.startswith("__") and name.endswith("__")
    }
    return ObjectType(declared.name, {**declared.fields, **plain}) if plain else declared


def _checker(spec: Spec, schema: Schema, params: Schema | None) -> Callable[[str], str]:
    """A function that says what is wrong with an expression about objects of ``schema``; "" when nothing is."""
    known = dict(variables_known(params=bool(spec.get("paramKind"))))
    objects: list[ObjectType] = list(OBJECTS)
    for names, part, called in (
        (("object", "oldObject"), schema, "Checked"),
        (("params",), params, "Params"),
    ):
        decl: Decl | None = declare(part, f"kubernetes.{called}") if part is not None else None
        if decl is not None:
            objects += [_with_keywords(each) for each in object_types(decl)]
            known |= {name: decl.type for name in names if name in known}
    types: dict[str, Type] = {}
    known["variables"] = Type("object", (), VARIABLES)

    def environment() -> Environment:
        return Environment(dict(known), (*objects, ObjectType(VARIABLES, dict(types))))

    for each in spec.get("variables") or ():
        try:
            kind = environment().compile(str(each.get("expression") or "").strip()).type
        except CompileError:
            kind = DYN
        types[str(each.get("name") or "")] = kind
    final = environment()

    def check(text: str) -> str:
        try:
            final.compile(text)
        except CompileError as error:
            return str(error)
        return ""

    return check
