"""The checked tree compiled into closures, which count what they cost.

Every node becomes a function of a :class:`Frame`: the variables, and what was spent. Costs are those of Kubernetes:
one for a name or a field, ten for a list, thirty for a map, and for a call what its function says; an evaluation that
spends more than its limit is stopped by :class:`BudgetExceeded`, wherever it is.

``&&`` and ``||`` absorb errors of one side when the other decides; so do the folds behind ``all`` and ``exists``. There
an accumulated error is a value (:class:`_Failed`) until it is looked at.

Worked example: ``[1, 2].all(x, x > 0)`` arrives as a fold with the accumulator ``@result``, initially true, the
condition ``@not_strictly_false(@result)`` and the step ``@result && x > 0``.

Source: the CEL language definition, "Evaluation"; costs after Kubernetes' "Resource constraints" of CEL.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

from bamikube.api.cel import operators
from bamikube.api.cel.functions import FUNCTIONS, Function
from bamikube.api.cel.functions.model import STRING_FACTOR, length
from bamikube.api.cel.names import unescape
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
    ABSENT,
    BudgetExceeded,
    CelError,
    NoOverload,
    Optional,
    Struct,
    TypeValue,
    Uint,
)

UNLIMITED = 1 << 62

# Variables whose names have a dot.
QUALIFIED = frozenset({"authorizer.requestResource"})


class Frame:
    """One evaluation: ``vars`` by name, ``cost`` so far, and the ``limit`` it must not pass."""

    __slots__ = ("cost", "limit", "vars")

    def __init__(self, variables: dict[str, Any], limit: int = UNLIMITED) -> None:
        self.vars = variables
        self.cost = 0
        self.limit = limit


Eval = Callable[[Frame], Any]


class Lazy(abc.ABC):
    """An object whose fields are worked out when they are first looked at (``variables`` of a policy)."""

    __slots__ = ()

    @abc.abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a field."""

    @abc.abstractmethod
    def field(self, frame: Frame, name: str) -> Any:
        """Its value. Raises CelError when there is no such field."""


class _Failed:
    """An error held by an accumulator."""

    __slots__ = ("error",)

    def __init__(self, error: CelError) -> None:
        self.error = error


class _Growing(list[Any]):
    """The list that ``map`` and ``filter`` gather in: appended to instead of copied."""

    __slots__ = ()


_MISSING = object()

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


def _select(value: Any, field: str, frame: Frame) -> Any:
    """``value.field``. Raises CelError."""
    if isinstance(value, dict):
        found = value.get(field, _MISSING)
        if found is _MISSING:
            raise CelError(f"no such key: {field}")
        return found
    if isinstance(value, Lazy):
        return value.field(frame, field)
    if type(value) is Optional:
        return _optional_select(value, field, frame)
    raise NoOverload()


def _has(value: Any, field: str) -> bool:
    if isinstance(value, dict):
        return field in value
    if isinstance(value, Lazy):
        return value.has(field)
    if type(value) is Optional:
        return value.present and _has(value.value, field)
    raise NoOverload()


def _optional_select(value: Any, field: str, frame: Frame) -> Optional:
    if type(value) is Optional:
        if not value.present:
            return ABSENT
        value = value.value
    return Optional(True, _select(value, field, frame)) if _has(value, field) else ABSENT


def _optional_index(value: Any, key: Any) -> Optional:
    if type(value) is Optional:
        if not value.present:
            return ABSENT
        value = value.value
    if isinstance(value, dict):
        found, item = operators.find_key(value, key)
        return Optional(True, item) if found else ABSENT
    if isinstance(value, list):
        if type(key) not in (int, Uint):
            raise NoOverload("_[?_]")
        return Optional(True, value[key]) if 0 <= key < len(value) else ABSENT
    raise NoOverload("_[?_]")


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
                if type(value) is _Failed:
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
            return lambda frame: _has(operand(frame), field)

        def select(frame: Frame) -> Any:
            frame.cost += 1
            value = operand(frame)
            if type(value) is dict:
                found = value.get(field, _MISSING)
                if found is not _MISSING:
                    return found
            return _select(value, field, frame)

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
        operator = _OPERATORS.get(name)
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
            return _optional_select(operand(frame), name, frame)

        return select

    def index_optional(self, node: Call) -> Eval:
        items, key = (self.node(each) for each in node.args)

        def select(frame: Frame) -> Optional:
            frame.cost += 1
            return _optional_index(items(frame), key(frame))

        return select

    def index(self, node: Call) -> Eval:
        items, key = (self.node(each) for each in node.args)

        def select(frame: Frame) -> Any:
            frame.cost += 1
            value = items(frame)
            if type(value) is Optional:
                return _optional_index(value, key(frame))
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

    def _quantifier(self, node: Comprehension) -> bool | None:
        """The value that decides ``all`` (False) or ``exists`` (True); None for any other fold."""
        step, init, result = node.step, node.init, node.result
        if not (isinstance(step, Call) and isinstance(init, Const) and isinstance(result, Ident)):
            return None
        first = step.args[0] if step.args else None
        if not (isinstance(first, Ident) and first.name == result.name == node.accu):
            return None
        if (step.function, init.value) == ("_&&_", True):
            return False
        return True if (step.function, init.value) == ("_||_", False) else None

    def _quantify(self, node: Comprehension, decides: bool) -> Eval:
        """``all`` and ``exists`` without the accumulator: the same outcome and cost in half the time."""
        source = self.node(node.range)
        outer_accumulators, outer_locals = self._accumulators, self._locals
        self._accumulators = outer_accumulators - {node.var, node.var2}
        self._locals = outer_locals | {node.var, node.var2}
        assert isinstance(node.step, Call)
        predicate = self.node(node.step.args[1])
        self._accumulators, self._locals = outer_accumulators, outer_locals
        var, var2, other = node.var, node.var2, not decides

        def quantify(frame: Frame) -> bool:
            items = source(frame)
            names = frame.vars
            saved = [(name, names.get(name, _MISSING)) for name in (var, var2) if name]
            failed: CelError | None = None
            try:
                for key, value in _pairs(items, bool(var2)):
                    names[var] = key
                    if var2:
                        names[var2] = value
                    try:
                        found = predicate(frame)
                    except CelError as error:
                        failed = failed or error
                    else:
                        if found is decides:
                            return decides
                        if found is not other:
                            failed = failed or NoOverload()
                    if frame.cost > frame.limit:
                        raise BudgetExceeded
            finally:
                _restore(names, saved)
            if failed is not None:
                raise failed
            return other

        return quantify

    def _fold(self, node: Comprehension) -> Eval:
        decides = self._quantifier(node)
        if decides is not None:
            return self._quantify(node, decides)
        source = self.node(node.range)
        init = self.node(node.init)
        outer_accumulators, outer_locals = self._accumulators, self._locals
        self._accumulators = outer_accumulators - {node.var, node.var2} | {node.accu}
        self._locals = outer_locals | {node.var, node.var2, node.accu}
        condition, step = self.node(node.condition), self.node(node.step)
        self._locals = outer_locals | {node.accu}
        self._accumulators = outer_accumulators | {node.accu}
        result = self.node(node.result)
        self._accumulators, self._locals = outer_accumulators, outer_locals
        var, var2, accu = node.var, node.var2, node.accu
        grows = isinstance(node.init, ListNode) and not node.init.items

        def fold(frame: Frame) -> Any:
            items = source(frame)
            names = frame.vars
            saved = [(name, names.get(name, _MISSING)) for name in (accu, var, var2) if name]
            start = init(frame)
            names[accu] = _Growing() if grows else start
            try:
                for key, value in _pairs(items, bool(var2)):
                    names[var] = key
                    if var2:
                        names[var2] = value
                    if condition(frame) is not True:
                        break
                    try:
                        names[accu] = step(frame)
                    except CelError as error:
                        names[accu] = _Failed(error)
                    if frame.cost > frame.limit:
                        raise BudgetExceeded
                done = result(frame)
                return list(done) if type(done) is _Growing else done
            finally:
                _restore(names, saved)

        return fold


def _restore(names: dict[str, Any], saved: list[tuple[str, Any]]) -> None:
    """Give outer variables back the names that a fold took."""
    for name, before in saved:
        if before is _MISSING:
            names.pop(name, None)
        else:
            names[name] = before


def _pairs(items: Any, two: bool) -> Any:
    """What a fold walks over: elements or keys, in the first place of a pair."""
    if isinstance(items, list):
        return enumerate(items) if two else ((item, None) for item in items)
    if isinstance(items, dict):
        return list(items.items()) if two else [(key, None) for key in items]
    raise NoOverload()


def _unknown(name: str) -> Eval:
    def fail(frame: Frame) -> Any:
        raise NoOverload(name)

    return fail


def _add(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int:
        total = left + right
        if operators.MIN_INT <= total <= operators.MAX_INT:
            return total
    if type(left) is _Growing:
        if not isinstance(right, list):
            raise NoOverload("_+_")
        left.extend(right)
        return left
    return operators.add(left, right)


def _not(value: Any) -> bool:
    if value is True:
        return False
    if value is False:
        return True
    raise NoOverload("!_")


def _ordered(test: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    def call(left: Any, right: Any) -> bool:
        order = operators.compare(left, right)
        return order is not None and test(order)

    return call


def _compared(left: Any, right: Any) -> int:
    if type(left) is int or type(right) is int:
        return 1
    return math.ceil(min(length(left), length(right)) * STRING_FACTOR)


def _joined(left: Any, right: Any) -> int:
    kind = type(left)
    if kind is int:
        return 1
    return math.ceil((length(left) + length(right)) * STRING_FACTOR) if kind is str or kind is bytes else 1


Operator = tuple[Callable[..., Any], "Callable[[Any, Any], int] | None"]

_OPERATORS: dict[str, Operator] = {
    "_==_": (operators.equal, _compared),
    "_!=_": (lambda left, right: not operators.equal(left, right), _compared),
    "_<_": (_ordered(lambda order: order < 0), _compared),
    "_<=_": (_ordered(lambda order: order <= 0), _compared),
    "_>_": (_ordered(lambda order: order > 0), _compared),
    "_>=_": (_ordered(lambda order: order >= 0), _compared),
    "_+_": (_add, _joined),
    "_-_": (operators.subtract, None),
    "_*_": (operators.multiply, None),
    "_/_": (operators.divide, None),
    "_%_": (operators.modulo, None),
    "-_": (operators.negate, None),
    "!_": (_not, None),
    "@in": (
        lambda item, items: operators.contains(items, item),
        lambda item, items: length(items) if isinstance(items, list) else 1,
    ),
}

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
