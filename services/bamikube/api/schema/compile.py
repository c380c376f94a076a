"""Definitions compiled into closures: does this JSON have the right shape?

A compiled visitor is called with a value and the place that holds it, and returns ``None`` when all is well (the only
case that has to be fast: no path is built, nothing is allocated) or a list of :class:`Issue`. Paths are put together
on the way up, so that only faults pay for them.

Visitors also put right, in place, what Go's decoder puts right:

- a property that is ``null`` is dropped (it means "not given"), and so is an empty list or map, unless its type always
  writes it (see :mod:`bamikube.api.schema.written`);
- a quantity given as a number becomes a string, times are written in UTC with the precision of their type;
- an unknown property is dropped and reported.

Worked example: ``{"spec": {"replicas": "3", "foo": 1}}`` for a Deployment yields a type issue at ``spec.replicas``
(found string, wanted int32, in the Go struct DeploymentSpec) and an unknown issue at ``spec.foo``.
"""

from __future__ import annotations

import base64
import binascii
import copy
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bamikube.api.memory import FEW, Approved, mark_of, remembered
from bamikube.api.omitted import left_out
from bamikube.api.quantity import canonical
from bamikube.api.schema.source import INT_OR_STRING, MICRO_TIME, QUANTITY, REF, TIME, definition
from bamikube.api.schema.written import zeros
from bamikube.api.series import POD_SPEC, mark_but_images


@dataclass(slots=True)
class Issue:
    """What is wrong at ``path`` (``containers[0].name``, seen from the value that was visited)."""

    path: str
    unknown: bool = False
    message: str = ""  # of a decode error that is not about the JSON type
    found: str = ""  # JSON type found, in Go's words
    wanted: str = ""  # Go type wanted
    struct: str = ""  # Go struct that holds the field


Visitor = Callable[[Any, Any, Any], "list[Issue] | None"]

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_UTC_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_UTC_MICROS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)\Z")
_QUANTITY_HINT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def go_word(value: Any) -> str:
    """What Go's decoder calls this JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number" if isinstance(value, int) else f"number {value}"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def short_name(name: str) -> str:
    """``v1.PodSpec`` of ``io.k8s.api.core.v1.PodSpec``."""
    parts = name.split(".")
    return ".".join(parts[-2:])


def go_type(schema: dict[str, Any]) -> str:
    """The Go type behind a schema, as its error messages name it."""
    ref = schema.get("$ref")
    if ref:
        return short_name(str(ref).removeprefix(REF))
    kind = schema.get("type")
    if kind == "array":
        return "[]" + go_type(schema.get("items", {}))
    if kind == "object":
        inner = schema.get("additionalProperties")
        return "map[string]" + go_type(inner) if isinstance(inner, dict) else "map[string]interface {}"
    if kind == "string":
        return "[]uint8" if schema.get("format") == "byte" else "string"
    if kind == "integer":
        return str(schema.get("format") or "int32")
    return {"boolean": "bool", "number": "float64"}.get(str(kind), "interface {}")


def _wrong(value: Any, wanted: str) -> list[Issue]:
    return [Issue("", found=go_word(value), wanted=wanted)]


def _anything(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    return None


def _string(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    return None if type(value) is str else _wrong(value, "string")


def _boolean(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    return None if type(value) is bool else _wrong(value, "bool")


def _integer(limits: range, word: str) -> Visitor:
    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is int:
            return None if value in limits else [Issue("", found=f"number {value}", wanted=word)]
        return _wrong(value, word)

    return visit


_int32 = _integer(_INT32, "int32")
_int64 = _integer(_INT64, "int64")


def _number(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    return None if type(value) in (int, float) else _wrong(value, "float64")


def _bytes(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    if type(value) is not str:
        return _wrong(value, "[]uint8")
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        good = re.match(r"[A-Za-z0-9+/]*={0,2}", value)
        return [Issue("", message=f"illegal base64 data at input byte {good.end() if good else 0}")]
    return None


def _int_or_string(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    kind = type(value)
    if kind is str:
        return None
    if kind is int:
        return None if value in _INT32 else [Issue("", found=f"number {value}", wanted="int32")]
    return _wrong(value, "intstr.IntOrString" if kind in (list, dict) else "int32")


_canonical_quantity = remembered(4096)(canonical)


def _quantity(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    """Quantities are kept in their shortest form: ``1000m`` becomes ``1``, ``1024Mi`` becomes ``1Gi``."""
    if type(value) not in (str, int, float):
        return [Issue("", message=_QUANTITY_HINT)]
    try:
        holder[key] = _canonical_quantity(value) if type(value) is str else canonical(value)
    except ValueError:
        return [Issue("", message=_QUANTITY_HINT)]
    return None


def _canonical_time(value: str, micro: bool) -> str | None:
    """The time in UTC with the precision of its type; None when it is not RFC 3339, or not of the years 1 to 9999."""
    match = _RFC3339.match(value)
    if match is None:
        return None
    base, fraction, zone = match.groups()
    micros = ((fraction or "") + "000000")[:6]
    try:
        moment = datetime.fromisoformat(base.upper() + "." + micros + ("+00:00" if zone in "Zz" else zone))
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    text = moment.replace(tzinfo=None).isoformat("T", "microseconds" if micro else "seconds")
    return f"{text}Z"


def _time(micro: bool) -> Visitor:
    exact = _UTC_MICROS if micro else _UTC_SECONDS
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is not str:
            return _wrong(value, "string")
        if exact.match(value):
            return None
        canonical = _canonical_time(value, micro)
        if canonical is None:
            return [
                Issue("", message=f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"')
            ]
        holder[key] = canonical
        return None

    return visit


def _schema_or(wanted: str, accepts: Callable[[Any], bool]) -> Visitor:
    """A schema inside a schema where something simpler may stand instead; ``accepts`` knows the simpler thing."""
    inner = _deferred(f"{_EXTENSIONS}.JSONSchemaProps")

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is dict:
            return inner(value, holder, key)
        if type(value) is list and wanted == _OR_ARRAY:
            issues = []
            for index, each in enumerate(value):
                for issue in inner(each, value, index) or ():
                    issue.path = f"[{index}]{_joint(issue.path)}"
                    issues.append(issue)
            return issues or None
        return None if accepts(value) else _wrong(value, f"v1.{wanted}")

    return visit


def _texts(value: Any) -> bool:
    return type(value) is list and all(type(each) is str for each in value)


_OR_ARRAY = "JSONSchemaPropsOrArray"
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
_ALTERNATIVES: dict[str, Callable[[Any], bool]] = {
    _OR_ARRAY: lambda value: False,
    "JSONSchemaPropsOrBool": lambda value: type(value) is bool,
    "JSONSchemaPropsOrStringArray": _texts,
}
_SPECIAL: dict[str, Visitor] = {
    INT_OR_STRING: _int_or_string,
    QUANTITY: _quantity,
    TIME: _time(False),
    MICRO_TIME: _time(True),
}


def _zero(schema: dict[str, Any]) -> Any:
    """What Go makes of a ``null`` inside a list or map of ``schema``: the type's zero value; None: it stays null."""
    ref = schema.get("$ref")
    if ref:
        name = str(ref).removeprefix(REF)
        if name in _SPECIAL:
            special = _SPECIAL[name]
            return 0 if special is _int_or_string else "0" if special is _quantity else None
        inner = definition(name)
        return {} if "properties" in inner else _zero(inner)
    if schema.get("type") == "string" and schema.get("format") == "date-time":
        return None
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}.get(
        str(schema.get("type"))
    )


REMEMBERED = 256  # lists of one kind, and pod specs


def _list(schema: dict[str, Any]) -> Visitor:
    item = visitor_of(schema.get("items", {}))
    zero = functools.cache(lambda: _zero(schema.get("items", {})))
    leaf = _leaf_type(item)
    wanted = go_type(schema)
    clean = Approved(
        REMEMBERED
    )  # lists that are as they are to be: nothing wrong, nothing to be written anew

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is not list:
            return _wrong(value, wanted)
        mark = mark_of(value) if leaf is None and len(value) >= FEW else b""
        if mark in clean:
            return None
        issues: list[Issue] | None = None
        for index, each in enumerate(value):
            if type(each) is leaf:
                continue
            if each is None:
                value[index] = copy.copy(zero())
                continue
            found = item(each, value, index)
            if found is not None:
                for issue in found:
                    issue.path = f"[{index}]{_joint(issue.path)}"
                issues = found if issues is None else issues + found
        if mark and issues is None and mark_of(value) == mark:
            clean.approve(mark)
        return issues

    return visit


def _map(schema: dict[str, Any]) -> Visitor:
    inner = schema.get("additionalProperties")
    item = visitor_of(inner) if isinstance(inner, dict) else _anything
    zero = functools.cache(lambda: _zero(inner) if isinstance(inner, dict) else None)
    leaf = _leaf_type(item)
    wanted = go_type(schema)

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is not dict:
            return _wrong(value, wanted)
        issues: list[Issue] | None = None
        for name, each in value.items():
            if type(each) is leaf:
                continue
            if each is None:
                value[name] = copy.copy(zero())  # a null label is an empty label
                continue
            found = item(each, value, name)
            if found is not None:
                for issue in found:
                    issue.path = f"{name}{_joint(issue.path)}"
                issues = found if issues is None else issues + found
        return issues

    return visit


def _joint(path: str) -> str:
    return path if not path or path[0] == "[" else "." + path


def _leaf_type(visitor: Visitor) -> type | None:
    """The Python type that alone satisfies the visitor, so that the call can be saved."""
    leaves: dict[Visitor, type] = {_string: str, _boolean: bool}
    return leaves.get(visitor)


def _struct(name: str) -> Visitor:
    schema = definition(name)
    always = {*schema.get("required", ()), *zeros(name)}
    properties: dict[str, tuple[Visitor, type | None, type | None]] = {}
    for key, each in schema["properties"].items():
        visitor = visitor_of(each)
        empty = None if key in always else left_out(name, key, each)
        properties[key] = (visitor, _leaf_type(visitor), empty)
    wanted = short_name(name)
    struct = name.rpartition(".")[2]

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is not dict:
            return _wrong(value, wanted)
        issues: list[Issue] | None = None
        dropped: list[str] | None = None
        for field, each in value.items():
            known = properties.get(field)
            if known is None:
                issues = [*(issues or ()), Issue(field, unknown=True)]
                dropped = [*(dropped or ()), field]
            elif each is None or (not each and type(each) is known[2]):
                dropped = [*(dropped or ()), field]
            elif type(each) is not known[1]:
                found = known[0](each, value, field)
                if found is not None:
                    for issue in found:
                        issue.path = f"{field}{_joint(issue.path)}"
                        if issue.found and not issue.struct:
                            issue.struct = struct
                    issues = found if issues is None else issues + found
        if dropped is not None:
            for field in dropped:
                del value[field]
        return issues

    return visit


@functools.cache
def visitor(name: str) -> Visitor:
    """The compiled visitor of a definition. Raises ``KeyError`` for a name that does not exist."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    package, _, short = name.rpartition(".")
    if package == _EXTENSIONS and short in _ALTERNATIVES:
        return _schema_or(short, _ALTERNATIVES[short])
    schema = definition(name)
    if "properties" in schema:
        return _series(_struct(name)) if name == POD_SPEC else _struct(name)
    return _visitor_of_type(schema)


def _series(visit_one: Visitor) -> Visitor:
    """A visitor of pod specs that is asked once about those that differ in images only."""
    clean = Approved(REMEMBERED)

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        if type(value) is not dict:
            return visit_one(value, holder, key)
        mark = mark_but_images(value)
        if mark in clean:
            return None
        issues = visit_one(value, holder, key)
        if mark and issues is None and mark_but_images(value) == mark:
            clean.approve(mark)
        return issues

    return visit


def _deferred(name: str) -> Visitor:
    """A visitor compiled when it is first used: definitions refer to themselves, and most are never needed."""
    compiled: Visitor | None = None

    def visit(value: Any, holder: Any, key: Any) -> list[Issue] | None:
        nonlocal compiled
        if compiled is None:
            compiled = visitor(name)
        return compiled(value, holder, key)

    return visit


def visitor_of(schema: dict[str, Any]) -> Visitor:
    """The visitor of an inline schema."""
    ref = schema.get("$ref")
    if ref:
        name = str(ref).removeprefix(REF)
        return _SPECIAL.get(name) or _deferred(name)
    return _visitor_of_type(schema)


def _visitor_of_type(schema: dict[str, Any]) -> Visitor:
    kind, form = schema.get("type"), schema.get("format")
    if kind == "string":
        return {"byte": _bytes, "date-time": _time(False)}.get(str(form), _string)
    if kind == "integer":
        return _int64 if form == "int64" else _int32
    if kind == "array":
        return _list(schema)
    if kind == "object":
        return _map(schema) if "additionalProperties" in schema else _object
    return {"boolean": _boolean, "number": _number}.get(str(kind), _anything)


def _object(value: Any, holder: Any, key: Any) -> list[Issue] | None:
    """An object whose fields are nobody's business (RawExtension, FieldsV1)."""
    return None if type(value) is dict else _wrong(value, "map[string]interface {}")
