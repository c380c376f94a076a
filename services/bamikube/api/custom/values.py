"""Validation of values against a structural schema, in the words of Kubernetes.

A schema is compiled once into nested closures. A compiled check is called with a value and returns ``None`` when all
is well or a list of :class:`Fault`; the steps from the object's root to a fault are put together on the way up, so
only faults pay for them.

Worked example: with ``spec: {properties: {replicas: {type: integer, minimum: 1}}}`` the object ``{"spec": {"replicas":
0}}`` has one fault, which becomes the cause

    spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1

**Ratcheting** (KEP-4008): an update may keep what was wrong before. A fault is dropped when the value it stands in, or
anything around it, is the same as before; elements of lists are only compared where the list is a map with keys.
Whoever is valid never pays for that either.

Source: the validation keywords on Kubernetes' CustomResourceDefinition page; wording of go-openapi's ``validate``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from bamikube.api.custom.formats import FORMATS
from bamikube.api.custom.patterns import matches
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import not_supported, required, shown, too_long, too_many

Schema = dict[str, Any]
Step = str | int
Check = Callable[[Any], "list[Fault] | None"]

INT_OR_STRING = "x-kubernetes-int-or-string"
_INT32 = range(-(2**31), 2**31)
_LOGIC = ("allOf", "anyOf", "oneOf", "not")


@dataclass(slots=True)
class Fault:
    """One thing that is wrong. ``cause`` makes the cause for the path of ``steps``, which are kept innermost first.

    ``missing`` is the name of a required field: the fault stands in the object that lacks it.
    """

    cause: Callable[[str], Cause]
    missing: str = ""
    steps: list[Step] = field(default_factory=list)

    def path(self) -> str:
        return path_of([*reversed(self.steps), *([self.missing] if self.missing else [])])


def path_of(steps: Iterable[Step]) -> str:
    """``spec.list[0].name`` of ``("spec", "list", 0, "name")``."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def type_name(value: Any) -> str:
    """What a JSON value is called in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    if isinstance(value, dict):
        return "object"
    return "integer" if isinstance(value, int) else "number"


def identical(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same. Python finds 1, 1.0 and True equal; JSON does not."""
    if type(left) is not type(right) or left != right:
        return False
    if not isinstance(left, (dict, list)):
        return True
    return orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(right, option=orjson.OPT_SORT_KEYS)


def _plain(number: float) -> str:
    """A bound as Go's %v writes it."""
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e21 else f"{number:g}"


def _invalid(value: Any, text: str) -> Fault:
    return Fault(
        lambda path: Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {path} in body {text}", path)
    )


def _typed(value: Any, wanted: str) -> Fault:
    """A value of the wrong type, or a text that is not of its format."""

    def cause(path: str) -> Cause:
        text = f"Invalid value: {shown(value)}: {path} in body must be of type {wanted}: {shown(value)}"
        return Cause("FieldValueTypeInvalid", text, path)

    return Fault(cause)


def _nowhere(text: Callable[[str], str]) -> Fault:
    """A fault that Kubernetes reports without a field."""
    return Fault(lambda path: Cause("FieldValueInvalid", f'Invalid value: "": {text(path)}', "<nil>"))


# --- the parts of a schema ------------------------------------------------------------------------------------------


def _type_check(schema: Schema) -> Check | None:
    kind = schema.get("type")
    nullable = bool(schema.get("nullable"))
    wanted: str
    types: tuple[type, ...]
    if schema.get(INT_OR_STRING):
        wanted, types = "integer,string", (int, str)
    elif kind == "integer":
        wanted, types = "integer", (int,)
    elif kind == "number":
        wanted, types = "number", (int, float)
    elif isinstance(kind, str) and kind in _TYPES:
        wanted, types = kind, _TYPES[kind]
    else:
        return None

    def check(value: Any) -> list[Fault] | None:
        found = type(value)
        if found in types:
            return None
        if value is None and nullable:
            return None
        if found is float and int in types and value.is_integer():
            return None  # 1.0 is an integer of JSON
        return [_typed(type_name(value), wanted)]

    return check


_TYPES: dict[Any, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
}


def _enum(schema: Schema) -> Check | None:
    allowed = schema.get("enum")
    if not allowed:
        return None
    texts = {each for each in allowed if isinstance(each, str)}
    names = [each if isinstance(each, str) else orjson.dumps(each).decode() for each in allowed]

    def check(value: Any) -> list[Fault] | None:
        if type(value) is str:
            if value in texts:
                return None
        elif any(identical(value, each) for each in allowed):
            return None
        return [Fault(lambda path: not_supported(path, value, names))]

    return check


def _number(schema: Schema) -> Check | None:
    low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    above, below = bool(schema.get("exclusiveMinimum")), bool(schema.get("exclusiveMaximum"))
    small = schema.get("type") == "integer" and schema.get("format") == "int32"
    if low is None and high is None and not step and not small:
        return None

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not int and type(value) is not float:
            return None
        faults: list[Fault] = []
        if small and value not in _INT32:
            faults.append(
                _nowhere(lambda path: f"Checked value must be of type integer with format int32 in {path}")
            )
        if step and not _multiple(value, step):
            faults.append(_invalid(value, f"should be a multiple of {_plain(step)}"))
        if high is not None and (value >= high if below else value > high):
            word = "less than" if below else "less than or equal to"
            faults.append(_invalid(value, f"should be {word} {_plain(high)}"))
        if low is not None and (value <= low if above else value < low):
            word = "greater than" if above else "greater than or equal to"
            faults.append(_invalid(value, f"should be {word} {_plain(low)}"))
        return faults or None

    return check


def _multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    quotient = value / step
    return abs(quotient - round(quotient)) < 1e-9


def _string(schema: Schema) -> Check | None:
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    pattern = schema.get("pattern")
    form = str(schema.get("format") or "")
    # A format of numbers says nothing about texts, and unknown formats are comments.
    of_format = FORMATS.get(form.replace("datetime", "date-time"))
    if shortest is None and longest is None and not pattern and of_format is None:
        return None

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not str:
            return None
        faults: list[Fault] = []
        if longest is not None and len(value) > longest:
            faults.append(Fault(lambda path: too_long(path, longest)))
        if shortest is not None and len(value) < shortest:
            faults.append(_invalid(value, f"should be at least {shortest} chars long"))
        if pattern and not matches(pattern, value):
            faults.append(_invalid(value, f"should match '{pattern}'"))
        if of_format is not None and not of_format(value):
            faults.append(_typed(value, form))
        return faults or None

    return check


def _list(schema: Schema) -> Check | None:
    items = schema.get("items")
    inner = compiled(items) if isinstance(items, dict) else None
    fewest, most = schema.get("minItems"), schema.get("maxItems")
    if inner is None and fewest is None and most is None:
        return None

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not list:
            return None
        faults: list[Fault] = []
        if fewest is not None and len(value) < fewest:
            faults.append(_invalid(len(value), f"should have at least {fewest} items"))
        if most is not None and len(value) > most:
            faults.append(Fault(lambda path: too_many(path, len(value), most)))
        if inner is not None:
            for index, each in enumerate(value):
                found = inner(each)
                if found is not None:
                    for fault in found:
                        fault.steps.append(index)
                    faults += found
        return faults or None

    return check


def _object(schema: Schema) -> Check | None:
    properties = {
        name: found
        for name, each in (schema.get("properties") or {}).items()
        if (found := compiled(each)) is not None
    }
    extra = schema.get("additionalProperties")
    others = compiled(extra) if isinstance(extra, dict) else None
    needed = tuple(schema.get("required") or ())
    fewest, most = schema.get("minProperties"), schema.get("maxProperties")
    if not (properties or needed) and others is None and fewest is None and most is None:
        return None
    named = frozenset(schema.get("properties") or ())

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not dict:
            return None
        faults: list[Fault] | None = None
        for name in needed:
            if name not in value:
                faults = [*(faults or ()), Fault(required, missing=name)]
        if fewest is not None and len(value) < fewest:
            fault = _invalid(len(value), f"should have at least {fewest} properties")
            faults = [*(faults or ()), fault]
        if most is not None and len(value) > most:
            faults = [*(faults or ()), Fault(lambda path: too_many(path, len(value), most))]
        for name, each in value.items():
            inner = properties.get(name)
            if inner is None:
                if others is None or name in named:
                    continue
                inner = others
            found = inner(each)
            if found is not None:
                for fault in found:
                    fault.steps.append(name)
                faults = found if faults is None else faults + found
        return faults

    return check


# --- logic ----------------------------------------------------------------------------------------------------------


def _all_of(schema: Schema) -> Check | None:
    parts = [found for each in schema.get("allOf") or () if (found := compiled(each)) is not None]
    total = len(schema.get("allOf") or ())
    if not parts:
        return None

    def check(value: Any) -> list[Fault] | None:
        faults: list[Fault] = []
        failed = 0
        for part in parts:
            found = part(value)
            if found is not None:
                failed += 1
                faults += found
        if failed:
            tail = ". None validated" if failed == total else ""
            faults.append(_nowhere(lambda path: f'"{path}" must validate all the schemas (allOf){tail}'))
        return faults or None

    return check


def _one_of(schema: Schema, word: str) -> Check | None:
    """``oneOf`` and ``anyOf``. When none fits, what the most fitting alternative lacks is reported, too."""
    parts = [compiled(each) for each in schema.get(word) or ()]
    if not parts:
        return None
    exactly = word == "oneOf"

    def check(value: Any) -> list[Fault] | None:
        best: list[Fault] | None = None
        valid = 0
        for part in parts:
            found = part(value) if part is not None else None
            if found is None:
                valid += 1
                if not exactly:
                    return None
            elif best is None or len(found) < len(best):
                best = found
        if exactly and valid == 1:
            return None
        if not exactly:
            return [
                _nowhere(lambda path: f'"{path}" must validate at least one schema (anyOf)'),
                *(best or ()),
            ]
        tail = f"Found {valid} valid alternatives" if valid else "Found none valid"
        fault = _nowhere(lambda path: f'"{path}" must validate one and only one schema (oneOf). {tail}')
        return [fault] if valid else [fault, *(best or ())]

    return check


def _not(schema: Schema) -> Check | None:
    inner = schema.get("not")
    if not isinstance(inner, dict):
        return None
    forbidden = compiled(inner)

    def check(value: Any) -> list[Fault] | None:
        if forbidden is not None and forbidden(value) is not None:
            return None
        return [_nowhere(lambda path: f'"{path}" must not validate the schema (not)')]

    return check


def compiled(schema: Schema) -> Check | None:
    """The check of a schema; None when it accepts everything."""
    of_type, of_enum = _type_check(schema), _enum(schema)
    found = [
        _object(schema),
        _list(schema),
        _string(schema),
        _number(schema),
        of_enum,
        _all_of(schema),
        _one_of(schema, "anyOf"),
        _one_of(schema, "oneOf"),
        _not(schema),
    ]
    checks = [check for check in found if check is not None]
    if of_type is None and not checks:
        return None
    if not checks:
        return of_type
    nulls = [check for check in (of_type, of_enum) if check is not None]

    def check(value: Any) -> list[Fault] | None:
        if value is None:
            return [fault for one in nulls for fault in one(value) or ()] or None
        faults: list[Fault] | None = None
        if of_type is not None:
            faults = of_type(value)
        for one in checks:
            more = one(value)
            if more is not None:
                faults = more if faults is None else faults + more
        return faults

    return check


# --- ratcheting -----------------------------------------------------------------------------------------------------

_NOWHERE: Any = object()


def changed_only(schema: Schema, faults: list[Fault], new: Any, old: Any) -> list[Fault]:
    """The faults that an update is to blame for: those in values that are not what they were."""
    return [fault for fault in faults if not _kept(schema, list(reversed(fault.steps)), new, old)]


def _kept(schema: Any, steps: list[Step], new: Any, old: Any) -> bool:
    for step in [*steps, None]:
        if old is _NOWHERE:
            return False
        if identical(new, old):
            return True
        if step is None:
            return False
        schema = schema if isinstance(schema, dict) else {}
        if isinstance(step, int):
            old = _partner(schema, new[step], old)
            schema = schema.get("items")
        else:
            inner = (schema.get("properties") or {}).get(step)
            schema = inner if inner is not None else schema.get("additionalProperties")
            old = old.get(step, _NOWHERE) if isinstance(old, dict) else _NOWHERE
        new = new[step]
    return False


def _partner(schema: Schema, element: Any, old: Any) -> Any:
    """The element of the old list with the same keys, if the list is a map."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(element, dict):
        return _NOWHERE
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    for each in old if isinstance(old, list) else ():
        if isinstance(each, dict) and all(identical(each.get(key), element.get(key)) for key in keys):
            return each
    return _NOWHERE


def causes_of(faults: Iterable[Fault]) -> list[Cause]:
    return [fault.cause(fault.path()) for fault in faults]
