"""The checked syntax tree, out of the bytes the CEL library serialises it to.

The library parses and checks; what it hands over is the wire form of ``cel.expr.CheckedExpr``: the tree, the type of
every node, and what every name and call resolved to. Here it becomes a handful of Python classes for the cost
estimate and the evaluator. The wire form is protobuf's; a message is read into ``{field number: [values]}`` and taken
apart by the numbers of ``cel/expr/syntax.proto`` and ``checked.proto``.

Worked example: ``self.a > 1`` is ``Call("_>_", [Select(Ident("self"), "a"), Const(1)])``, the type of the call is
bool, and its reference names the overload ``greater_int64``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.cel.types import BYTES, DYN, NULL, Duration, Timestamp, Type, Uint


@dataclass(slots=True)
class Node:
    id: int


@dataclass(slots=True)
class Const(Node):
    value: Any


@dataclass(slots=True)
class Ident(Node):
    name: str


@dataclass(slots=True)
class Select(Node):
    """``operand.field``; with ``test`` it is ``has(operand.field)``."""

    operand: Node
    field: str
    test: bool


@dataclass(slots=True)
class Call(Node):
    function: str
    target: Node | None
    args: list[Node]


@dataclass(slots=True)
class ListNode(Node):
    items: list[Node]
    optional: frozenset[int]  # indices of elements written ``?x``


@dataclass(slots=True)
class Entry:
    key: Any  # a Node in maps, a field name in structs
    value: Node
    optional: bool


@dataclass(slots=True)
class MapNode(Node):
    entries: list[Entry]


@dataclass(slots=True)
class StructNode(Node):
    name: str
    entries: list[Entry]


@dataclass(slots=True)
class Comprehension(Node):
    """A fold: ``accu = init; for var in range: if not condition: break; accu = step``; then ``result``."""

    range: Node
    var: str
    var2: str
    accu: str
    init: Node
    condition: Node
    step: Node
    result: Node


@dataclass(slots=True)
class Reference:
    """What a name or call resolved to: a full name, or the overloads that fit."""

    name: str = ""
    overloads: tuple[str, ...] = ()


@dataclass(slots=True)
class Checked:
    root: Node
    types: dict[int, Type] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)

    def type_of(self, node: Node) -> Type:
        return self.types.get(node.id, DYN)


Message = dict[int, list[Any]]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    shift = result = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def _message(data: bytes) -> Message:
    """The fields of a message; nested messages and texts stay bytes. Raises IndexError on cut bytes."""
    fields: Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 1:
            value, at = data[at : at + 8], at + 8
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire == 5:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"wire type {wire}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _text(fields: Message, number: int) -> str:
    return fields[number][-1].decode() if number in fields else ""


def _number(fields: Message, number: int) -> int:
    return fields[number][-1] if number in fields else 0


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _nanos(data: bytes) -> int:
    fields = _message(data)
    return _signed(_number(fields, 1)) * 1_000_000_000 + _signed(_number(fields, 2))


def _constant(data: bytes) -> Any:
    fields = _message(data)
    for number, values in fields.items():
        value = values[-1]
        match number:
            case 1:
                return None
            case 2:
                return bool(value)
            case 3:
                return _signed(value)
            case 4:
                return Uint(value)
            case 5:
                return struct.unpack("<d", value)[0]
            case 6:
                return value.decode()
            case 7:
                return bytes(value)
            case 8:
                return Duration(_nanos(value))
            case 9:
                return Timestamp(_nanos(value))
    return None


def _entries(values: list[bytes]) -> list[Entry]:
    entries = []
    for data in values:
        fields = _message(data)
        key: Any = _node(fields[3][-1]) if 3 in fields else _text(fields, 2)
        entries.append(Entry(key, _node(fields[4][-1]), bool(_number(fields, 5))))
    return entries


def _packed(values: list[Any]) -> frozenset[int]:
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            found.append(one)
    return frozenset(found)


def _node(data: bytes) -> Node:
    fields = _message(data)
    ident = _number(fields, 2)
    if 3 in fields:
        return Const(ident, _constant(fields[3][-1]))
    if 4 in fields:
        return Ident(ident, _text(_message(fields[4][-1]), 1))
    if 5 in fields:
        inner = _message(fields[5][-1])
        return Select(ident, _node(inner[1][-1]), _text(inner, 2), bool(_number(inner, 3)))
    if 6 in fields:
        inner = _message(fields[6][-1])
        target = _node(inner[1][-1]) if 1 in inner else None
        return Call(ident, _text(inner, 2), target, [_node(each) for each in inner.get(3, ())])
    if 7 in fields:
        inner = _message(fields[7][-1])
        return ListNode(ident, [_node(each) for each in inner.get(1, ())], _packed(inner.get(2, [])))
    if 8 in fields:
        inner = _message(fields[8][-1])
        name, entries = _text(inner, 1), _entries(inner.get(2, []))
        return StructNode(ident, name, entries) if name else MapNode(ident, entries)
    if 9 in fields:
        inner = _message(fields[9][-1])
        return Comprehension(
            ident,
            range=_node(inner[2][-1]),
            var=_text(inner, 1),
            var2=_text(inner, 8),
            accu=_text(inner, 3),
            init=_node(inner[4][-1]),
            condition=_node(inner[5][-1]),
            step=_node(inner[6][-1]),
            result=_node(inner[7][-1]),
        )
    return Const(ident, None)


_PRIMITIVES = {
    1: Type("bool"),
    2: Type("int"),
    3: Type("uint"),
    4: Type("double"),
    5: Type("string"),
    6: BYTES,
}
_WELL_KNOWN = {1: DYN, 2: Type("timestamp"), 3: Type("duration")}


def _type(data: bytes) -> Type:
    fields = _message(data)
    for number, values in fields.items():
        value = values[-1]
        match number:
            case 2:
                return NULL
            case 3 | 4:
                return _PRIMITIVES.get(value, DYN)
            case 5:
                return _WELL_KNOWN.get(value, DYN)
            case 6:
                inner = _message(value)
                return Type("list", (_type(inner[1][-1]) if 1 in inner else DYN,))
            case 7:
                inner = _message(value)
                params = tuple(_type(inner[number][-1]) if number in inner else DYN for number in (1, 2))
                return Type("map", params)
            case 9:
                return Type("object", (), value.decode())
            case 11:
                return Type("type", (_type(value),) if value else ())
            case 14:
                inner = _message(value)
                return Type("opaque", tuple(_type(each) for each in inner.get(2, ())), _text(inner, 1))
    return DYN


def decode(data: bytes) -> Checked:
    """The tree of a serialised ``CheckedExpr``."""
    fields = _message(data)
    checked = Checked(_node(fields[4][-1]))
    for entry in fields.get(2, ()):
        inner = _message(entry)
        reference = _message(inner[2][-1]) if 2 in inner else {}
        overloads = tuple(each.decode() for each in reference.get(3, ()))
        checked.references[_number(inner, 1)] = Reference(_text(reference, 1), overloads)
    for entry in fields.get(3, ()):
        inner = _message(entry)
        checked.types[_number(inner, 1)] = _type(inner[2][-1]) if 2 in inner else DYN
    return checked


def decode_any(data: bytes) -> Checked:
    """The tree of a ``CheckedExpr``, or of a ``ParsedExpr`` (which has no types), packed in a ``google.protobuf.Any``."""
    fields = _message(data)
    if _text(fields, 1).endswith("ParsedExpr"):
        return Checked(_node(_message(fields[2][-1])[2][-1]))
    return decode(fields[2][-1])


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes below it."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(children(one))


def children(node: Node) -> list[Node]:
    """The nodes right below."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return [node.target, *node.args] if node.target is not None else node.args
    if isinstance(node, ListNode):
        return node.items
    if isinstance(node, MapNode | StructNode):
        keys = [entry.key for entry in node.entries if isinstance(entry.key, Node)]
        return [*keys, *(entry.value for entry in node.entries)]
    if isinstance(node, Comprehension):
        return [node.range, node.init, node.condition, node.step, node.result]
    return []
