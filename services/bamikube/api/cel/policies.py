"""Expressions of admission: match conditions, and all that a policy says, compiled.

What expressions may use::

    object, oldObject     as they are, with the types that JSON has
    request               kind, resource, name, namespace, operation, userInfo, dryRun, options ...
    namespaceObject       the namespace of the request, without its status' conditions
    params                when the policy has a paramKind
    variables             those declared before, by name
    authorizer            and authorizer.requestResource

Worked example: a policy with the variable ``n: object.spec.replicas`` and the validation ``variables.n <= 5`` compiles
the validation against a type ``variables`` that has the field ``n`` of type dyn.

Source: Kubernetes' "Validating Admission Policy" and "Mutating Admission Policy".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.cel.environment import Environment, ObjectType, Program
from bamikube.api.cel.functions.model import AUTHORIZER, RESOURCE_CHECK
from bamikube.api.cel.tree import (
    Call,
    Comprehension,
    Const,
    Ident,
    ListNode,
    MapNode,
    Node,
    Select,
    StructNode,
    children,
)
from bamikube.api.cel.types import BOOL, DYN, INT, STRING, TIMESTAMP, CompileError, Type, list_of, map_of
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import invalid

CONDITIONS_BUDGET = 2_500_000  # cost of all match conditions of one policy or webhook, at most
BUDGET = 10_000_000  # cost of one binding, at most

Spec = Mapping[str, Any]


def _object(name: str, /, **fields: Type) -> ObjectType:
    return ObjectType(f"kubernetes.{name}", fields)


def _type(name: str) -> Type:
    return Type("object", (), f"kubernetes.{name}")


_KIND = {"group": STRING, "version": STRING, "kind": STRING}
_RESOURCE = {"group": STRING, "version": STRING, "resource": STRING}
_STRINGS = map_of(STRING, STRING)
OBJECTS = (
    _object("GroupVersionKind", **_KIND),
    _object("GroupVersionResource", **_RESOURCE),
    _object(
        "UserInfo",
        username=STRING,
        uid=STRING,
        groups=list_of(STRING),
        extra=map_of(STRING, list_of(STRING)),
    ),
    _object(
        "AdmissionRequest",
        kind=_type("GroupVersionKind"),
        resource=_type("GroupVersionResource"),
        subResource=STRING,
        requestKind=_type("GroupVersionKind"),
        requestResource=_type("GroupVersionResource"),
        requestSubResource=STRING,
        name=STRING,
        namespace=STRING,
        operation=STRING,
        userInfo=_type("UserInfo"),
        dryRun=BOOL,
        options=DYN,
    ),
    _object(
        "NamespaceMetadata",
        name=STRING,
        generateName=STRING,
        namespace=STRING,
        labels=_STRINGS,
        annotations=_STRINGS,
        uid=STRING,
        creationTimestamp=TIMESTAMP,
        deletionGracePeriodSeconds=INT,
        deletionTimestamp=TIMESTAMP,
        generation=INT,
        resourceVersion=STRING,
        finalizers=list_of(STRING),
    ),
    _object("NamespaceSpec", finalizers=list_of(STRING)),
    _object("NamespaceStatus", phase=STRING),
    _object(
        "Namespace",
        metadata=_type("NamespaceMetadata"),
        spec=_type("NamespaceSpec"),
        status=_type("NamespaceStatus"),
    ),
)
VARIABLES = "kubernetes.variables"


def variables_known(*, params: bool, webhook: bool = False) -> dict[str, Type]:
    """What expressions may name, but for ``variables``."""
    known: dict[str, Type] = {
        "object": DYN,
        "oldObject": DYN,
        "request": _type("AdmissionRequest"),
        "namespaceObject": _type("Namespace"),
        "authorizer": AUTHORIZER,
        "authorizer.requestResource": RESOURCE_CHECK,
    }
    if webhook:
        del known["namespaceObject"]
    if params:
        known["params"] = DYN
    return known


@functools.lru_cache(maxsize=64)
def _environment(
    params: bool, variables: tuple[tuple[str, Type], ...] | None, webhook: bool = False
) -> Environment:
    known = variables_known(params=params, webhook=webhook)
    objects: tuple[ObjectType, ...] = OBJECTS
    if variables is not None:
        known["variables"] = Type("object", (), VARIABLES)
        objects = (*OBJECTS, ObjectType(VARIABLES, dict(variables)))
    return Environment(known, objects)


@dataclass(frozen=True, slots=True)
class Named:
    """A variable, a match condition, or an audit annotation."""

    name: str
    program: Program


@dataclass(frozen=True, slots=True)
class Validation:
    program: Program
    message: str
    message_program: Program | None
    reason: str

    @property
    def expression(self) -> str:
        return self.program.expression


@dataclass(frozen=True, slots=True)
class Mutation:
    """``patch``: the expression makes a JSON patch; else an object to be applied."""

    patch: bool
    program: Program


@dataclass(slots=True)
class Compiled:
    """All expressions of a policy. ``causes`` are what is wrong with them."""

    conditions: list[Named] = field(default_factory=list)
    variables: list[Named] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    annotations: list[Named] = field(default_factory=list)
    mutations: list[Mutation] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)


def compile_conditions(
    conditions: Sequence[Spec], path: str, *, params: bool = False, webhook: bool = False
) -> tuple[list[Named], list[Cause]]:
    """``matchConditions``, of policies, or of a webhook, which knows fewer variables."""
    compiled = _Compiler(params, None, webhook=webhook)
    found = [
        Named(str(each.get("name") or ""), program)
        for index, each in enumerate(conditions)
        if (program := compiled.one(each.get("expression"), f"{path}[{index}].expression", (BOOL,)))
    ]
    return found, compiled.causes


def compile_policy(spec: Spec) -> Compiled:
    """The expressions of a ValidatingAdmissionPolicy or MutatingAdmissionPolicy."""
    params = bool(spec.get("paramKind"))
    done = Compiled()
    done.conditions, done.causes = compile_conditions(
        spec.get("matchConditions") or (), "spec.matchConditions", params=params
    )
    types: dict[str, Type] = {}
    for index, each in enumerate(spec.get("variables") or ()):
        compiler = _Compiler(params, tuple(types.items()), done.causes)
        program = compiler.one(each.get("expression"), f"spec.variables[{index}].expression", ())
        if program is not None:
            types[str(each.get("name") or "")] = program.type
            done.variables.append(Named(str(each.get("name") or ""), program))
    compiler = _Compiler(params, tuple(types.items()), done.causes)
    for index, each in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{index}]"
        program = compiler.one(each.get("expression"), f"{path}.expression", (BOOL,))
        text = each.get("messageExpression")
        message = compiler.one(text, f"{path}.messageExpression", (STRING,)) if text else None
        if program is not None:
            words = str(each.get("message") or "").strip()
            done.validations.append(Validation(program, words, message, str(each.get("reason") or "")))
    for index, each in enumerate(spec.get("auditAnnotations") or ()):
        path = f"spec.auditAnnotations[{index}].valueExpression"
        program = compiler.one(each.get("valueExpression"), path, (STRING, Type("null")))
        if program is not None:
            done.annotations.append(Named(str(each.get("key") or ""), program))
    for index, each in enumerate(spec.get("mutations") or ()):
        is_patch = each.get("patchType") == "JSONPatch"
        part = "jsonPatch" if is_patch else "applyConfiguration"
        text = (each.get(part) or {}).get("expression")
        program = compiler.mutation(text, f"spec.mutations[{index}].{part}.expression", is_patch)
        if program is not None:
            done.mutations.append(Mutation(is_patch, program))
    return done


class _Compiler:
    def __init__(
        self,
        params: bool,
        variables: tuple[tuple[str, Type], ...] | None,
        causes: list[Cause] | None = None,
        webhook: bool = False,
    ) -> None:
        self._env = _environment(params, variables, webhook)
        self.causes: list[Cause] = [] if causes is None else causes

    def one(self, expression: Any, path: str, wanted: tuple[Type, ...]) -> Program | None:
        """An expression of one of the ``wanted`` types (any when empty); None, and a cause, when it is not."""
        text = str(expression or "").strip()
        if not text:
            return None  # said elsewhere: it is required
        try:
            program = self._env.compile(text)
        except CompileError as error:
            self.causes.append(invalid(path, expression, f"compilation failed: {error}"))
            return None
        if wanted and program.type not in wanted:
            names = [str(each) for each in wanted]
            must = names[0] if len(names) == 1 else f"one of: [{' '.join(names)}]"
            self.causes.append(invalid(path, expression, f"must evaluate to {must}"))
            return None
        return program

    def mutation(self, expression: Any, path: str, is_patch: bool) -> Program | None:
        """An expression that makes objects. Their types are open, so only names are checked."""
        text = str(expression or "").strip()
        if not text:
            return None
        try:
            program = self._env.compile(text, check=False)
        except CompileError as error:
            self.causes.append(invalid(path, expression, f"compilation failed: {error}"))
            return None
        wrong = _undeclared(program.checked.root, frozenset(self._env.variables))
        if not wrong:
            wrong = _wrong_kind(program.checked.root, is_patch)
        if wrong:
            self.causes.append(invalid(path, expression, wrong))
            return None
        return program


_KNOWN_NAMES = frozenset(
    [
        "bool",
        "bytes",
        "double",
        "dyn",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
        "optional",
        "math",
        "sets",
        "ip",
        "format",
        "strings",
        "jsonpatch",
        "google",
        "optional_type",
    ]
)


def _undeclared(root: Node, known: frozenset[str]) -> str:
    """The message about the first name that nothing declares; "" when all are known."""
    waiting: list[tuple[Node, frozenset[str]]] = [(root, known | _KNOWN_NAMES)]
    while waiting:
        node, names = waiting.pop()
        if isinstance(node, Ident) and node.name not in names:
            where = f"ERROR: <input>: undeclared reference to '{node.name}' (in container '')"
            return f"compilation failed: {where}"
        if isinstance(node, StructNode):
            head = node.name.partition(".")[0]
            if head != "Object" and node.name != "JSONPatch":
                return f"compilation failed: ERROR: <input>: undeclared reference to '{node.name}' (in container '')"
        if isinstance(node, Comprehension):
            inner = names | {node.var, node.var2, node.accu}
            waiting += [(node.range, names), (node.init, names)]
            waiting += [(each, inner) for each in (node.condition, node.step, node.result)]
            continue
        waiting += [(each, names) for each in children(node)]
    return ""


def _wrong_kind(root: Node, is_patch: bool) -> str:
    """What a mutation makes can be seen by its outermost part, as far as it can be seen at all."""
    if isinstance(root, Call | Select | Ident | Comprehension):
        return ""
    if is_patch:
        return "" if isinstance(root, ListNode) else "must evaluate to list(JSONPatch)"
    if isinstance(root, StructNode) and root.name == "Object":
        return ""
    if isinstance(root, Const | ListNode | MapNode | StructNode):
        return "must evaluate to Object"
    return ""
