"""The checked tree compiled into closures, which count what they cost.

Every node becomes a function of a :class:`Frame`: the variables, and what was spent. Costs are those of Kubernetes:
one for a name or a field, ten for a list, thirty for a map, and for a call what its function says; an evaluation that
spends more than its limit is stopped by :class:`BudgetExceeded`, wherever it is.

``&&`` and ``||`` absorb errors of one side when the other decides; so do the folds behind ``all`` and ``exists``
(:mod:`bamikube.api.cel.folds`).

Worked example: ``[1, 2].all(x, x > 0)`` arrives as a fold with the accumulator ``@result``, initially true, the
condition ``@not_strictly_false(@result)`` and the step ``@result && x > 0``.

Source: the CEL language definition, "Evaluation"; costs after Kubernetes' "Resource constraints" of CEL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.cel import folds, frames, operators
from bamikube.api.cel.frames import MISSING, Eval, Frame
from bamikube.api.cel.functions import FUNCTIONS, Function
from bamikube.api.cel.names import unescape
from bamikube.api.cel.priced import OPERATORS, Operator
from bamikube.api.cel.tree import (
    Call,
    Checked,
    Comprehension,
    Const,
    Entry,
    Ident,
    ListNode,
    MapNode,
    Node,
    Select,
    StructNode,
)
from bamikube.api.cel.types import (
    BudgetExceeded,
    CelError,
    NoOverload,
    Optional,
    Struct,
    TypeValue,
    Uint,
)

# Variables whose names have a dot.
QUALIFIED = frozenset({"authorizer.requestResource"})


_TYPES = {
    "bool": "bool",
    "bytes": "bytes",
    "double": "double",
    "dyn": "dyn",
    "int": "int",
    "list": "list",
    "map": "map",
    "null_type": "null_type",
    "string": "string",
    "type": "type",
    "uint": "uint",
    "google.protobuf.Timestamp": "google.protobuf.Timestamp",
    "google.protobuf.Duration": "google.protobuf.Duration",
    "optional_type": "optional_type",
}


def compile_tree(checked: Checked) -> Eval:
    """The closure of a tree."""
    return _Compiler(checked).node(checked.root)


class _Compiler:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self._accumulators: set[str] = set()
        self._locals: set[str] = set()

    def node(self, node: Node) -> Eval:
        if isinstance(node, Const):
            value = node.value
            return lambda frame: value
        if isinstance(node, Ident):
            return self._ident(node)
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListNode):
            return self._list(node)
        if isinstance(node, MapNode):
            return self._map(node)
        if isinstance(node, StructNode):
            return self._struct(node)
        if isinstance(node, Comprehension):
            return self._fold(node)
        raise TypeError(type(node).__name__)

    # -- names and fields ----------------------------------------------------------------------------------------

    def _ident(self, node: Ident) -> Eval:
        reference = self._checked.references.get(node.id)
        name = node.name
        if name in self._accumulators:

            def accumulator(frame: Frame) -> Any:
                value = frame.vars[name]
                if type(value) is folds.Failed:
                    raise value.error
                return value

            return accumulator
        full = (reference.name if reference else "") or name
        if name not in self._locals and full in _TYPES:
            kind = TypeValue(_TYPES[full])
            return lambda frame: kind

        def ident(frame: Frame) -> Any:
            frame.cost += 1
            try:
                return frame.vars[name]
            except KeyError:
                raise CelError(f"no such attribute(s): {name}") from None

        return ident

    def _select(self, node: Select) -> Eval:
        if isinstance(node.operand, Ident):
            full = f"{node.operand.name}.{node.field}"
            if full in QUALIFIED and node.operand.name not in self._locals:
                return self._ident(Ident(0, full))
        operand = self.node(node.operand)
        field = node.field
        if self._checked.type_of(node.operand).kind == "object":
            field = unescape(field)
        if node.test:
            return lambda frame: frames.has(operand(frame), field)

        def select(frame: Frame) -> Any:
            frame.cost += 1
            value = operand(frame)
            if type(value) is dict:
                found = value.get(field, MISSING)
                if found is not MISSING:
                    return found
            return frames.select(value, field, frame)

        return select

    # -- literals ------------------------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> Eval:
        items = [self.node(item) for item in node.items]
        optional = node.optional
        if not optional:

            def plain(frame: Frame) -> list[Any]:
                frame.cost += 10
                return [item(frame) for item in items]

            return plain

        def build(frame: Frame) -> list[Any]:
            frame.cost += 10
            made = []
            for index, item in enumerate(items):
                value = item(frame)
                if index in optional:
                    if type(value) is not Optional:
                        raise NoOverload()
                    if not value.present:
                        continue
                    value = value.value
                made.append(value)
            return made

        return build

    def _fields(self, entries: list[Entry]) -> Callable[[Frame], dict[Any, Any]]:
        compiled = [
            (
                self.node(entry.key) if isinstance(entry.key, Node) else entry.key,
                self.node(entry.value),
                entry.optional,
            )
            for entry in entries
        ]

        def build(frame: Frame) -> dict[Any, Any]:
            made: dict[Any, Any] = {}
            for key, compute, optional in compiled:
                name = key(frame) if callable(key) else key
                if type(name) not in (str, int, bool, Uint):
                    raise CelError(f"unsupported key type: {operators.type_name(name)}")
                value = compute(frame)
                if optional:
                    if type(value) is not Optional:
                        raise NoOverload()
                    if not value.present:
                        continue
                    value = value.value
                if name in made:
                    raise CelError(f"Failed with repeated key {operators.shown(name)}")
                made[name] = value
            return made

        return build

    def _map(self, node: MapNode) -> Eval:
        fields = self._fields(node.entries)

        def build(frame: Frame) -> dict[Any, Any]:
            frame.cost += 30
            return fields(frame)

        return build

    def _struct(self, node: StructNode) -> Eval:
        for entry in node.entries:
            entry.key = unescape(entry.key)
        fields, name = self._fields(node.entries), node.name

        def build(frame: Frame) -> Struct:
            frame.cost += 40
            return Struct(name, fields(frame))

        return build

    # -- calls ---------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Eval:
        name = node.function
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self, node)
        operator = OPERATORS.get(name)
        if operator is not None:
            return self._operator(operator, node.args)
        if node.target is not None:
            qualified = self._qualified(node.target)
            if qualified and f"{qualified}.{name}" in FUNCTIONS:
                return self._function(FUNCTIONS[f"{qualified}.{name}"], node.args)
            if name not in FUNCTIONS:
                return _unknown(name)
            return self._function(FUNCTIONS[name], [node.target, *node.args])
        return self._function(FUNCTIONS[name], node.args) if name in FUNCTIONS else _unknown(name)

    def _qualified(self, node: Node) -> str:
        """``math`` of ``math.abs(x)`` in a tree that was not checked; "" for a real target."""
        if isinstance(node, Ident) and node.name not in self._locals:
            return node.name
        if isinstance(node, Select) and not node.test:
            inner = self._qualified(node.operand)
            return f"{inner}.{node.field}" if inner else ""
        return ""

    def _function(self, function: Function, nodes: list[Node]) -> Eval:
        args = [self.node(each) for each in nodes]
        call, cost = function.call, function.cost

        def run(frame: Frame) -> Any:
            values = tuple([arg(frame) for arg in args])
            try:
                result = call(*values)
            except TypeError:  # a number of arguments that the function does not take
                raise NoOverload() from None
            frame.cost += 1 if cost is None else cost(values, result)
            if frame.cost > frame.limit:
                raise BudgetExceeded
            return result

        return run

    def _operator(self, operator: Operator, nodes: list[Node]) -> Eval:
        call, cost = operator
        if len(nodes) == 1:
            only = self.node(nodes[0])

            def unary(frame: Frame) -> Any:
                frame.cost += 1
                return call(only(frame))

            return unary
        left, right = (self.node(each) for each in nodes)

        def binary(frame: Frame) -> Any:
            one, two = left(frame), right(frame)
            if cost is None:
                frame.cost += 1
            else:
                frame.cost += cost(one, two)
                if frame.cost > frame.limit:
                    raise BudgetExceeded
            return call(one, two)

        return binary

    def both(self, node: Call, decides: bool) -> Eval:
        """``&&`` (decided by False) and ``||`` (decided by True)."""
        left, right = (self.node(each) for each in node.args)
        other = not decides

        def logical(frame: Frame) -> bool:
            failed: CelError | None = None
            for side in (left, right):
                try:
                    value = side(frame)
                except CelError as error:
                    failed = failed or error
                    continue
                if value is decides:
                    return decides
                if value is not other:
                    failed = failed or NoOverload()
            if failed is not None:
                raise failed
            return other

        return logical

    def conditional(self, node: Call) -> Eval:
        test, yes, no = (self.node(each) for each in node.args)

        def choose(frame: Frame) -> Any:
            value = test(frame)
            if value is True:
                return yes(frame)
            if value is False:
                return no(frame)
            raise NoOverload()

        return choose

    def not_strictly_false(self, node: Call) -> Eval:
        inner = self.node(node.args[0])

        def test(frame: Frame) -> bool:
            try:
                return inner(frame) is not False
            except CelError:
                return True

        return test

    def select_optional(self, node: Call) -> Eval:
        operand, field = self.node(node.args[0]), node.args[1]
        name = str(field.value) if isinstance(field, Const) else ""
        kind = self._checked.type_of(node.args[0])
        if kind.kind == "object" or (
            kind.kind == "opaque" and kind.params and kind.params[0].kind == "object"
        ):
            name = unescape(name)

        def select(frame: Frame) -> Optional:
            frame.cost += 1
            return frames.optional_select(operand(frame), name, frame)

        return select

    def index_optional(self, node: Call) -> Eval:
        items, key = (self.node(each) for each in node.args)

        def select(frame: Frame) -> Optional:
            frame.cost += 1
            return frames.optional_index(items(frame), key(frame))

        return select

    def index(self, node: Call) -> Eval:
        items, key = (self.node(each) for each in node.args)

        def select(frame: Frame) -> Any:
            frame.cost += 1
            value = items(frame)
            if type(value) is Optional:
                return frames.optional_index(value, key(frame))
            return operators.index(value, key(frame))

        return select

    def or_value(self, node: Call) -> Eval:
        """``a.orValue(b)`` and ``a.or(b)``: ``b`` is only looked at when ``a`` is absent."""
        if node.target is None or len(node.args) != 1:
            return _unknown(node.function)
        target, other = self.node(node.target), self.node(node.args[0])
        whole = node.function == "or"

        def choose(frame: Frame) -> Any:
            frame.cost += 1
            value = target(frame)
            if type(value) is not Optional:
                raise NoOverload(node.function)
            if not value.present:
                return other(frame)
            return value if whole else value.value

        return choose

    # -- folds ---------------------------------------------------------------------------------------------------

    def _fold(self, node: Comprehension) -> Eval:
        source = self.node(node.range)
        outer_accumulators, outer_locals = self._accumulators, self._locals
        self._locals = outer_locals | {node.var, node.var2}
        self._accumulators = outer_accumulators - {node.var, node.var2}
        decides = folds.quantifier(node)
        if decides is not None:
            assert isinstance(node.step, Call)
            predicate = self.node(node.step.args[1])
            self._accumulators, self._locals = outer_accumulators, outer_locals
            return folds.quantify(node, source, predicate, decides)
        self._accumulators, self._locals = outer_accumulators, outer_locals
        init = self.node(node.init)
        self._accumulators = outer_accumulators - {node.var, node.var2} | {node.accu}
        self._locals = outer_locals | {node.var, node.var2, node.accu}
        condition, step = self.node(node.condition), self.node(node.step)
        self._locals = outer_locals | {node.accu}
        self._accumulators = outer_accumulators | {node.accu}
        result = self.node(node.result)
        self._accumulators, self._locals = outer_accumulators, outer_locals
        grows = isinstance(node.init, ListNode) and not node.init.items
        return folds.fold(node, folds.Parts(source, init, condition, step, result, grows))


def _unknown(name: str) -> Eval:
    def fail(frame: Frame) -> Any:
        raise NoOverload(name)

    return fail


_SPECIAL: dict[str, Callable[[_Compiler, Call], Eval]] = {
    "_&&_": lambda compiler, node: compiler.both(node, False),
    "_||_": lambda compiler, node: compiler.both(node, True),
    "_?_:_": _Compiler.conditional,
    "@not_strictly_false": _Compiler.not_strictly_false,
    "_?._": _Compiler.select_optional,
    "_[?_]": _Compiler.index_optional,
    "_[_]": _Compiler.index,
    "orValue": _Compiler.or_value,
    "or": _Compiler.or_value,
}
