"""``x-kubernetes-validations``: rules that a schema carries, compiled once and asked on every write.

A rule stands at some place of the schema and judges every value that comes to stand there (``self``). One that mentions
``oldSelf`` judges changes only: it is asked when there is an old value to compare with. Of what an update leaves alone
the other rules only warn (ratcheting, KEP-4008): of a value that is what it was, or that stands in a list whose elements
cannot be told apart when the whole list is.

Worked example: with ``spec: {x-kubernetes-validations: [{rule: self.replicas <= self.max}]}`` the object ``{"spec":
{"replicas": 3, "max": 2}}`` has one cause::

    spec: Invalid value: "object": failed rule: self.replicas <= self.max

All rules of one object share a budget; when it is used up the object is refused, so that no rule can hold up the server.

Source: KEP-2876 and Kubernetes' CustomResourceDefinition page, "Validation rules".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.cel.environment import Environment, Program
from bamikube.api.cel.presence import VALIDATIONS, has_rules
from bamikube.api.cel.schemas import Converter, Decl, Schema, converter, declare, object_types, rooted
from bamikube.api.cel.types import BudgetExceeded, CelError, CompileError, NoOverload, Optional, opaque
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import duplicate, forbidden, invalid, required

PER_CALL = 1_000_000  # cost of one evaluation, at most
BUDGET = 10_000_000  # cost of all rules of one object, at most
LONGEST_MESSAGE = 5120

ROOT = "<nil>"  # how Kubernetes names the place of the object itself

_OUT_OF_BUDGET = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)


@dataclass(slots=True)
class Rule:
    """One rule. ``error`` and ``message_error`` are what the compiler had against it."""

    source: dict[str, Any]
    program: Program | None = None
    error: str = ""
    message: Program | None = None
    message_error: str = ""
    changes: bool = False  # mentions oldSelf
    path: str = ""  # where its causes point, below the value

    @property
    def optional_old(self) -> bool:
        return bool(self.source.get("optionalOldSelf"))

    @property
    def shown(self) -> str:
        """How messages name the rule."""
        return str(self.source.get("message") or "").strip() or str(self.source.get("rule") or "").strip()


@dataclass(slots=True)
class Place:
    """A place of the schema that has rules, or has such places below."""

    kind: str  # the type as the schema names it
    rules: list[Rule] = field(default_factory=list)
    convert: Converter | None = None
    fields: dict[str, Place] = field(default_factory=dict)
    items: Place | None = None
    keys: tuple[str, ...] = ()  # of a list that is a map
    values: Place | None = None


def compile_rules(schema: Schema, decl: Decl) -> list[Rule]:
    """The rules that stand at one place, whose values are of ``decl``."""
    objects = object_types(decl)
    plain = Environment({"self": decl.type, "oldSelf": decl.type}, objects)
    optional = Environment({"self": decl.type, "oldSelf": opaque("optional_type", decl.type)}, objects)
    made = []
    for source in schema.get(VALIDATIONS) or ():
        rule = Rule(source, path=normal_path(str(source.get("fieldPath") or "")))
        env = optional if rule.optional_old else plain
        try:
            program = env.compile(str(source.get("rule") or "").strip())
            if program.type.kind != "bool":
                raise CompileError("cel expression must evaluate to a bool")
            rule.program = program
            rule.changes = program.uses("oldSelf")
        except CompileError as error:
            rule.error = _failed(error)
        text = str(source.get("messageExpression") or "").strip()
        if text:
            try:
                message = env.compile(text)
                if message.type.kind != "string":
                    raise CompileError("messageExpression must evaluate to a string")
                rule.message = message
            except CompileError as error:
                rule.message_error = _failed(error, "messageExpression compilation failed")
        made.append(rule)
    return made


def _failed(error: CompileError, words: str = "compilation failed") -> str:
    text = str(error)
    return f"{words}: {text}" if text.startswith("ERROR: ") else text


def normal_path(path: str) -> str:
    """``spec.a[b.c]`` of ``.spec.a['b.c']``."""
    return path.strip().removeprefix(".").replace("['", "[").replace("']", "]")


def compiled(schema: Schema) -> Judge | None:
    """The judge of whole objects of ``schema``; None when it has no rules."""
    if not has_rules(schema):
        return None
    return Judge(_place(schema, "schema.object", root=True))


def _place(schema: Schema, name: str, root: bool = False) -> Place:
    full = rooted(schema) if root or schema.get("x-kubernetes-embedded-resource") else schema
    place = Place(str(full.get("type") or ""), convert=converter(full))
    if schema.get(VALIDATIONS):
        decl = declare(schema, name, root)
        if decl is not None:
            place.rules = compile_rules(schema, decl)
    for prop, part in (schema.get("properties") or {}).items():
        if has_rules(part):
            place.fields[prop] = _place(part, "schema.object")
    items, values = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict) and has_rules(items):
        place.items = _place(items, "schema.object")
        if schema.get("x-kubernetes-list-type") == "map":
            place.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if isinstance(values, dict) and has_rules(values):
        place.values = _place(values, "schema.object")
    return place


_NONE = object()


class Judge:
    """Asks all rules about an object."""

    def __init__(self, root: Place) -> None:
        self._root = root

    def check(
        self, obj: dict[str, Any], old: dict[str, Any] | None = None, kept: list[str] | None = None
    ) -> list[Cause]:
        """What the rules have against ``obj``, or against a change from ``old``. ``kept`` is given what they have against
        that which has not changed."""
        return _Visit([] if kept is None else kept).run(self._root, obj, _NONE if old is None else old)


class _Visit:
    """One object's way through the rules."""

    def __init__(self, kept: list[str]) -> None:
        self.budget = BUDGET
        self.causes: list[Cause] = []
        self._kept = kept

    def run(self, root: Place, obj: Any, old: Any) -> list[Cause]:
        with contextlib.suppress(BudgetExceeded):  # the cause is noted
            self._visit(root, obj, old, "", False)
        return self.causes

    def _visit(self, place: Place, value: Any, old: Any, path: str, same_above: bool) -> None:
        """``same_above``: what the value stands in has not changed; it decides where there is nothing to compare with."""
        if value is None:
            return
        same = same_above if old is _NONE else old == value
        if place.rules:
            self._ask(place, value, old, path, same)
        for child, part, before, where in _children(place, value, old, path):
            self._visit(child, part, before, where, same)

    def _ask(self, place: Place, value: Any, old: Any, path: str, same: bool) -> None:
        variables: dict[str, Any] | None = None
        for rule in place.rules:
            if rule.changes and old is _NONE and not rule.optional_old:
                continue
            if rule.program is None:
                self._refuse(place, path, f"rule compile error: {rule.error}")
                continue
            try:
                if variables is None:
                    variables = _variables(place, value, old)
                env = variables
                if rule.optional_old:
                    before = Optional(False) if old is _NONE else Optional(True, variables["oldSelf"])
                    env = {**variables, "oldSelf": before}
                limit = min(PER_CALL, self.budget)
                result, cost = rule.program.run(env, limit)
            except BudgetExceeded:
                self._over(place, path, rule)
                raise
            except CelError as error:
                self._refuse(place, path, _evaluation_error(error, rule))
                continue
            self.budget -= cost
            if result is not True:
                cause = self._cause(place, rule, path, env)
                if same and not rule.changes:
                    self._kept.append(f"{cause.field}: {cause.message}")
                else:
                    self.causes.append(cause)

    def _over(self, place: Place, path: str, rule: Rule) -> None:
        if self.budget < PER_CALL:
            self._refuse(place, path, _OUT_OF_BUDGET)
            return
        self._refuse(
            place,
            path,
            "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost "
            f"exceeds limit for rule: {rule.shown}",
        )

    def _refuse(self, place: Place, path: str, detail: str) -> None:
        self.causes.append(invalid(path or ROOT, place.kind, detail))

    def _cause(self, place: Place, rule: Rule, path: str, variables: dict[str, Any]) -> Cause:
        detail = self._message(rule, variables)
        where = f"{path}.{rule.path}" if path and rule.path else rule.path or path or ROOT
        match rule.source.get("reason"):
            case "FieldValueForbidden":
                return forbidden(where, detail)
            case "FieldValueRequired":
                return required(where, detail)
            case "FieldValueDuplicate":
                return duplicate(where, place.kind)
        return invalid(where, place.kind, detail)

    def _message(self, rule: Rule, variables: dict[str, Any]) -> str:
        if rule.message is not None:
            try:
                text, cost = rule.message.run(variables, min(PER_CALL, self.budget))
                self.budget -= cost
                text = text.strip() if isinstance(text, str) else ""
                if text and "\n" not in text and len(text) <= LONGEST_MESSAGE:
                    return text
            except (CelError, BudgetExceeded):
                pass  # Kubernetes falls back to the fixed message
        written = str(rule.source.get("message") or "").strip()
        return written or f"failed rule: {rule.shown}"


def _variables(place: Place, value: Any, old: Any) -> dict[str, Any]:
    convert = place.convert
    variables = {"self": value if convert is None else convert(value)}
    if old is not _NONE:
        variables["oldSelf"] = old if convert is None else convert(old)
    return variables


def _evaluation_error(error: CelError, rule: Rule) -> str:
    if isinstance(error, NoOverload):
        return (
            f"'{error}': call arguments did not match a supported operator, function or macro signature for rule: "
            f"{rule.shown}"
        )
    return f"{error} evaluating rule: {rule.shown}"


Child = tuple[Place, Any, Any, str]


def _children(place: Place, value: Any, old: Any, path: str) -> Iterator[Child]:
    """The places below that the value fills, with what stood there before."""
    if isinstance(value, dict):
        for name, child in place.fields.items():
            if name in value:
                yield child, value[name], _before(old, name), f"{path}.{name}" if path else name
        if place.values is not None:
            for name, part in value.items():
                yield place.values, part, _before(old, name), f"{path}[{name}]"
    elif isinstance(value, list) and place.items is not None:
        find = _finder(place.keys, old)
        for index, part in enumerate(value):
            yield place.items, part, find(part), f"{path}[{index}]"


def _before(old: Any, name: str) -> Any:
    found = old.get(name, _NONE) if isinstance(old, dict) else _NONE
    return _NONE if found is None else found


def _finder(keys: tuple[str, ...], old: Any) -> Callable[[Any], Any]:
    """Finds the old element with the same keys; elements of other lists have no old form."""
    if not keys or not isinstance(old, list):
        return lambda item: _NONE

    def key(item: Any) -> tuple[Any, ...]:
        return tuple(repr(item.get(name)) if isinstance(item, dict) else "" for name in keys)

    there = {key(item): item for item in old}
    return lambda item: there.get(key(item), _NONE)
