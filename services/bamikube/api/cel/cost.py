"""What an expression may cost at most, before it has ever run.

The estimate walks the typed tree. Where a cost depends on sizes (walking over a text, searching a list, a fold), it
uses the bounds of the schema: ``maxLength``, ``maxItems``, ``maxProperties``, or what fits into a request. A fold costs
its step times the elements there may be.

Worked example: ``self.names.all(n, n.startsWith('a'))`` over ``maxItems: 10`` costs 10 times the step (a comparison,
names, the accumulator) plus the names outside; without ``maxItems`` it is a million times the step and beyond the
budget.

Source: Kubernetes' "Resource constraints" of CEL; the factors are cel-go's and Kubernetes' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bamikube.api.cel.functions.model import REGEX_FACTOR, STRING_FACTOR
from bamikube.api.cel.schemas import Decl
from bamikube.api.cel.tree import (
    Call,
    Checked,
    Comprehension,
    Const,
    Ident,
    ListNode,
    MapNode,
    Node,
    Select,
    StructNode,
)
from bamikube.api.cel.types import Type

UNBOUNDED = 2**64 - 1
_SCALARS = frozenset({"bool", "int", "uint", "double", "duration", "timestamp", "type", "null"})
_TEXTS = frozenset({"string", "bytes"})


@dataclass(frozen=True, slots=True)
class Range:
    """At least and at most; ``UNBOUNDED`` is as far as it goes."""

    least: int
    most: int

    def __add__(self, other: Range) -> Range:
        return Range(_cap(self.least + other.least), _cap(self.most + other.most))

    def __mul__(self, other: Range) -> Range:
        return Range(_cap(self.least * other.least), _cap(self.most * other.most))

    def times(self, factor: float) -> Range:
        return Range(_scaled(self.least, factor), _scaled(self.most, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.least, other.least), max(self.most, other.most))


def _cap(value: int) -> int:
    return min(value, UNBOUNDED)


def _scaled(value: int, factor: float) -> int:
    return UNBOUNDED if value >= UNBOUNDED else math.ceil(value * factor)


NOTHING, ONE = Range(0, 0), Range(1, 1)
ANY = Range(0, UNBOUNDED)
_ADDRESS = Range(4, 16)  # bytes

Path = tuple[str, ...]


def estimate(checked: Checked, variables: Mapping[str, Decl]) -> Range:
    """The cost of evaluating ``checked`` once."""
    return _Estimate(checked, variables).cost(checked.root)


class _Estimate:
    def __init__(self, checked: Checked, variables: Mapping[str, Decl]) -> None:
        self._checked = checked
        self._variables = variables
        self._sizes: dict[int, Range] = {}
        self._paths: dict[int, Path] = {}
        self._loops: dict[str, Path | None] = {}

    # -- sizes ---------------------------------------------------------------------------------------------------

    def _decl(self, path: Path | None) -> Decl | None:
        if not path:
            return None
        decl = self._variables.get(path[0])
        for name in path[1:]:
            if decl is None:
                return None
            decl = decl.step(name)
        return decl

    def size(self, node: Node) -> Range:
        if node.id in self._sizes:
            return self._sizes[node.id]
        if isinstance(node, Const) and isinstance(node.value, (str, bytes)):
            return Range(len(node.value), len(node.value))
        if isinstance(node, ListNode):
            return Range(len(node.items) - len(node.optional), len(node.items))
        if isinstance(node, MapNode):
            return Range(0, len(node.entries))
        return self._size_at(self._paths.get(node.id), self._checked.type_of(node))

    def _size_at(self, path: Path | None, kind: Type) -> Range:
        if kind.kind in _SCALARS:
            return ONE
        decl = self._decl(path)
        return Range(0, decl.most) if decl is not None else ANY

    def _item_size(self, node: Node) -> Range | None:
        """The size of a list's elements; None when it is no list."""
        kind = self._checked.type_of(node)
        if kind.kind != "list" or not kind.params:
            return None
        path = self._paths.get(node.id)
        return self._size_at((*path, "@items") if path else None, kind.params[0])

    # -- costs ---------------------------------------------------------------------------------------------------

    def cost(self, node: Node) -> Range:
        if isinstance(node, Ident):
            return self._ident(node)
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListNode):
            return _sum([self.cost(item) for item in node.items]) + Range(10, 10)
        if isinstance(node, MapNode | StructNode):
            base = 30 if isinstance(node, MapNode) else 40
            keys = [self.cost(entry.key) for entry in node.entries if isinstance(entry.key, Node)]
            return _sum([*keys, *(self.cost(entry.value) for entry in node.entries)]) + Range(base, base)
        if isinstance(node, Comprehension):
            return self._fold(node)
        return NOTHING

    def _ident(self, node: Ident) -> Range:
        path = self._loops.get(node.name, (node.name,))
        if path:
            self._paths[node.id] = path
        return ONE

    def _select(self, node: Select) -> Range:
        inner = self.cost(node.operand)
        if node.test:
            return inner
        path = self._paths.get(node.operand.id)
        if path:
            is_map = self._checked.type_of(node.operand).kind == "map"
            self._paths[node.id] = (*path, "@values" if is_map else node.field)
        return inner + ONE

    def _fold(self, node: Comprehension) -> Range:
        outside = self.cost(node.range) + self.cost(node.init)
        path = self._paths.get(node.range.id)
        is_map = self._checked.type_of(node.range).kind == "map"
        before = dict(self._loops)
        if node.var2:
            self._loops[node.var] = (*path, "@keys") if path and is_map else None
            self._loops[node.var2] = (*path, "@values" if is_map else "@items") if path else None
        else:
            self._loops[node.var] = (*path, "@keys" if is_map else "@items") if path else None
        binds = (
            isinstance(node.range, ListNode) and not node.range.items
        )  # optMap: the accumulator is what is bound
        self._loops[node.accu] = self._paths.get(node.init.id) if binds else None
        inside = self.cost(node.condition) + self.cost(node.step)
        result = self.cost(node.result)
        self._loops = before
        count = self.size(node.range)
        if isinstance(node.init, ListNode) and not node.init.items:
            self._sizes[node.id] = Range(0, count.most)
        return outside + result + count * inside

    def _call(self, node: Call) -> Range:
        args = [self.cost(each) for each in node.args]
        target = self.cost(node.target) if node.target is not None else NOTHING
        name = node.function
        if name == "_?_:_":
            self._sizes[node.id] = self.size(node.args[1]).union(self.size(node.args[2]))
            return args[0] + args[1].union(args[2])
        if name in ("_&&_", "_||_"):
            return Range(args[0].least, (args[0] + args[1]).most)
        self._follow(node)
        return target + _sum(args) + self._own(node)

    def _follow(self, node: Call) -> None:
        """Where the outcome of an index or an optional field stands."""
        name, args = node.function, node.args
        source = node.target if name in ("orValue", "value", "or") else args[0] if args else None
        path = self._paths.get(source.id) if source is not None else None
        if not path or source is None:
            return
        if name in ("_[_]", "_[?_]"):
            self._paths[node.id] = (
                *path,
                "@values" if self._checked.type_of(source).kind == "map" else "@items",
            )
        elif name == "_?._" and isinstance(args[1], Const):
            self._paths[node.id] = (*path, str(args[1].value))
        elif name in ("orValue", "value", "or", "optional.of", "optional.ofNonZeroValue", "dyn"):
            self._paths[node.id] = path

    def _own(self, node: Call) -> Range:
        """What the call itself costs."""
        everything = [node.target, *node.args] if node.target is not None else list(node.args)
        rule = _RULES.get(node.function)
        if rule is None or not everything:
            return ONE
        return rule(self, node, everything)

    def keep(self, node: Node, size: Range) -> None:
        self._sizes[node.id] = size

    def kind(self, node: Node) -> str:
        return self._checked.type_of(node).kind

    def item_size(self, node: Node) -> Range | None:
        return self._item_size(node)

    def item_kind(self, node: Node) -> str:
        params = self._checked.type_of(node).params
        return params[0].kind if params else "dyn"


def _sum(ranges: list[Range]) -> Range:
    total = NOTHING
    for each in ranges:
        total = total + each
    return total


Rule = Callable[[_Estimate, Call, list[Node]], Range]


def _walks(factor: float = STRING_FACTOR, argument: int = 0, same: bool = False) -> Rule:
    """Walks over one argument; ``same``: the outcome is as large."""

    def rule(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
        if argument >= len(args):
            return ONE
        size = estimate.size(args[argument])
        if same:
            estimate.keep(node, size)
        return size.times(factor)

    return rule


def _compares(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    most = min(estimate.size(args[0]).most, estimate.size(args[1]).most)
    return Range(1 if most else 0, most).times(STRING_FACTOR)


def _matches(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    text = (estimate.size(args[0]) + ONE).times(STRING_FACTOR)
    if node.function in ("find", "findAll"):
        estimate.keep(node, Range(0, estimate.size(args[0]).most))
    return text * estimate.size(args[1]).times(REGEX_FACTOR)


def _contains(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    return estimate.size(args[0]).times(STRING_FACTOR) * estimate.size(args[1]).times(STRING_FACTOR)


def _adds(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    kind = estimate.kind(node)
    if kind in _SCALARS:
        return ONE
    size = estimate.size(args[0]) + estimate.size(args[1])
    estimate.keep(node, size)
    return ONE if kind == "list" else size.times(STRING_FACTOR)


def _in(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    return estimate.size(args[1]) if estimate.kind(args[1]) != "map" else ONE


def _over_list(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    size = estimate.size(args[0])
    item = estimate.item_size(args[0])
    if item is None:  # indexOf of a text
        return size.times(STRING_FACTOR)
    each = ONE + (item.times(STRING_FACTOR) if estimate.item_kind(args[0]) in _TEXTS else NOTHING)
    return size * each


def _replace(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    text, old, new = (estimate.size(each) for each in args[:3])
    if old.least == 0:
        most = _cap((text.most + 1) * new.most + text.most)
    elif new.most <= old.least:
        most = text.most
    else:
        most = _cap(-(-text.most // old.least) * new.most)
    estimate.keep(node, Range(0, most))
    return text.times(2 * STRING_FACTOR)


def _split(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    text = estimate.size(args[0])
    limit = args[2] if len(args) > 2 else None
    most = (
        limit.value
        if isinstance(limit, Const) and isinstance(limit.value, int) and limit.value >= 0
        else text.most
    )
    estimate.keep(node, Range(0, int(most)))
    return text.times(2 * STRING_FACTOR)


def _join(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    count, item = estimate.size(args[0]), estimate.item_size(args[0]) or ANY
    total = count * item
    if len(args) > 1:
        total = total + estimate.size(args[1]) * Range(max(0, count.least - 1), max(0, count.most - 1))
    estimate.keep(node, total)
    return total.times(STRING_FACTOR)


def _containing(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    cost = (_ADDRESS + _ADDRESS).times(STRING_FACTOR)
    if node.function == "containsCIDR":
        cost = cost + _ADDRESS.times(STRING_FACTOR) + ONE
    if estimate.kind(args[1]) == "string":
        cost = cost + estimate.size(args[1]).times(STRING_FACTOR)
    return cost


def _pairs(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    return estimate.size(args[0]) * estimate.size(args[1])


def _encodes(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    """``bytes(text)`` and ``string(x)``."""
    size = estimate.size(args[0])
    if estimate.kind(args[0]) not in _TEXTS:
        return ONE
    estimate.keep(node, Range(size.least, _cap(size.most * 4)) if node.function == "bytes" else size)
    return size.times(STRING_FACTOR)


def _ip(estimate: _Estimate, node: Call, args: list[Node]) -> Range:
    return estimate.size(args[0]).times(STRING_FACTOR) if estimate.kind(args[0]) == "string" else ONE


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"), _compares),
    "_+_": _adds,
    "@in": _in,
    "matches": _matches,
    "find": _matches,
    "findAll": _matches,
    "contains": _contains,
    "startsWith": _walks(argument=1),
    "endsWith": _walks(argument=1),
    **{name: _walks(same=True) for name in ("lowerAscii", "upperAscii", "substring", "trim", "reverse")},
    **{
        name: _walks()
        for name in ("url", "isURL", "cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver")
    },
    "ip": _ip,
    "ip.isCanonical": _walks(2 * STRING_FACTOR),
    "strings.quote": _walks(same=True),
    "format": _walks(),
    "validate": _walks(argument=1),
    "replace": _replace,
    "split": _split,
    "join": _join,
    **dict.fromkeys(("isSorted", "sum", "min", "max", "indexOf", "lastIndexOf"), _over_list),
    "containsIP": _containing,
    "containsCIDR": _containing,
    **dict.fromkeys(("sets.contains", "sets.equivalent", "sets.intersects"), _pairs),
    "bytes": _encodes,
    "string": _encodes,
    "check": lambda estimate, node, args: Range(350_000, 350_000),
}
