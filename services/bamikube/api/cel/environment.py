"""Environments: which variables and object types expressions may use; and the programs compiled in them.

The CEL library parses and checks (``docs/decisions/0004-cel.md``). It knows object types as protobuf messages, so the
objects of an environment become messages of a descriptor pool of its own. Where protobuf has no form for a type (lists
of lists, maps of lists) the inner type is left open.

An environment is built when it first compiles something; a :class:`Program` does not hold on to it. The library is
imported by then and not before: a cluster without expressions does not pay for it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.cel.tree import Checked, decode_any, walk
from bamikube.api.cel.types import CompileError, Type

LONGEST = 100_000  # characters of an expression


@dataclass(frozen=True)
class ObjectType:
    """An object: its fields by identifier (property names escaped as :mod:`bamikube.api.cel.names` has it)."""

    name: str
    fields: Mapping[str, Type]


@dataclass
class Environment:
    """``variables`` by name; ``objects`` are the object types that their types name; ``bind`` whether there is ``cel.bind``."""

    variables: Mapping[str, Type]
    objects: tuple[ObjectType, ...] = ()
    bind: bool = False
    _built: Any = field(default=None, repr=False)

    def compile(self, expression: str, *, check: bool = True) -> Program:
        """Parse and check. With ``check`` False only the syntax is looked at. Raises CompileError."""
        if len(expression) > LONGEST:
            raise CompileError(
                f"ERROR: <input>:-1:0: expression code point size exceeds limit: size: {len(expression)}, limit {LONGEST}"
            )
        if self._built is None:
            self._built = _build(self.variables, self.objects, self.bind)
        try:
            compiled = self._built.compile(expression, disable_check=not check)
            checked = decode_any(compiled.serialize())
        except RuntimeError as error:
            raise CompileError(_message(str(error), expression)) from None
        except TypeError:  # half a surrogate pair: the library takes UTF-8 only
            raise CompileError("ERROR: <input>:-1:0: the expression is no valid Unicode") from None
        except RecursionError:
            raise CompileError("ERROR: <input>:-1:0: expression recursion limit exceeded") from None
        _check_literals(checked)
        return Program(expression, checked)


class Program:
    """A compiled expression. ``run`` evaluates it; the closures are made by the first evaluation."""

    __slots__ = ("_eval", "checked", "expression")

    def __init__(self, expression: str, checked: Checked) -> None:
        self.expression = expression
        self.checked = checked
        self._eval: Any = None

    @property
    def type(self) -> Type:
        return self.checked.type_of(self.checked.root)

    def uses(self, name: str) -> bool:
        """Whether the expression mentions the variable."""
        from bamikube.api.cel.tree import Ident

        return any(isinstance(node, Ident) and node.name == name for node in walk(self.checked.root))

    def evaluate(self, frame: Any) -> Any:
        """Evaluate in a frame. Raises CelError and BudgetExceeded."""
        if self._eval is None:
            from bamikube.api.cel.evaluate import compile_tree

            self._eval = compile_tree(self.checked)
        return self._eval(frame)

    def run(self, variables: dict[str, Any], limit: int = 1 << 62) -> tuple[Any, int]:
        """The value, and what it cost. Raises CelError and BudgetExceeded."""
        from bamikube.api.cel.frames import Frame
        from bamikube.api.cel.types import BudgetExceeded

        frame = Frame(variables, limit)
        value = self.evaluate(frame)
        if frame.cost > limit:
            raise BudgetExceeded
        return value, frame.cost


_ERROR = re.compile(r"(?:^|\n)(?=ERROR: )")
_STRUCT = re.compile(r" not found in struct '[^']*'")


def _message(text: str, expression: str) -> str:
    """The library's message as the Go checker words it."""
    text = text.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
    parts = [_unqualified(part) for part in _ERROR.split(text) if part.strip() and "'*error*'" not in part]
    kept = "\n".join(part.rstrip("\n") for part in parts) or text
    return _STRUCT.sub("", kept).replace("null_type", "null")


_UNDECLARED = re.compile(
    r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): undeclared reference to '(?P<head>\w+)[\w.]*\.\w+' (?P<rest>.*)\n"
    r" \| (?P<source>.*)\n \| \.*\^"
)


def _unqualified(part: str) -> str:
    """An unknown ``a`` of ``a.b``, which the library calls unknown as a whole."""
    match = _UNDECLARED.match(part)
    if match is None:
        return part
    head, source = match["head"], match["source"]
    column = max(0, source.rfind(head, 0, int(match["column"])))
    return (
        f"ERROR: <input>:{match['line']}:{column + 1}: undeclared reference to '{head}' {match['rest']}\n"
        f" | {source}\n | {'.' * column}^"
    )


def _check_literals(checked: Checked) -> None:
    """Patterns, times and spans written as literals must be right when the expression is written."""
    from bamikube.api.cel import moments
    from bamikube.api.cel.functions.standard import pattern
    from bamikube.api.cel.tree import Call, Const
    from bamikube.api.cel.types import CelError

    checks: dict[str, Any] = {
        "matches": pattern,
        "timestamp": moments.parse_timestamp,
        "duration": moments.parse_duration,
    }
    for node in walk(checked.root):
        if isinstance(node, Call) and node.function in checks and node.args:
            literal = node.args[-1]
            if isinstance(literal, Const) and isinstance(literal.value, str):
                try:
                    checks[node.function](literal.value)
                except CelError as error:
                    raise CompileError(
                        f"ERROR: <input>:1:1: invalid {node.function} argument: {error}"
                    ) from None


# -- the library's side ----------------------------------------------------------------------------------------------

_STANDARD = "".join(f"- name: {name}\n" for name in ("optional", "strings", "math", "two-var-comprehensions"))
_SCALARS = {"bool": 8, "bytes": 12, "double": 1, "int": 3, "uint": 4, "string": 9}
_WELL_KNOWN = {
    "timestamp": ".google.protobuf.Timestamp",
    "duration": ".google.protobuf.Duration",
    "list": ".google.protobuf.ListValue",
    "map": ".google.protobuf.Struct",
}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


def _build(variables: Mapping[str, Type], objects: tuple[ObjectType, ...], bind: bool) -> Any:
    from cel_expr_python import cel

    # The binding loses the parameters of opaque types of variables; the configuration text keeps them.
    opaque = {name: _described(kind) for name, kind in variables.items() if kind.kind == "opaque"}
    text = f"name: kubernetes\nextensions:\n{_STANDARD}"
    if bind:
        text += "- name: bindings\n"
    if opaque:
        text += "variables:\n" + "".join(f"- {{name: {name}, {kind}}}\n" for name, kind in opaque.items())
    config = cel.NewEnvConfigFromYaml(text)
    return cel.NewEnv(
        _pool(objects),
        config=config,
        variables={name: library_type(kind) for name, kind in variables.items() if name not in opaque},
        extensions=[_functions()],
    )


def _described(kind: Type) -> str:
    """A type in the words of the configuration text."""
    name = kind.name or {
        "timestamp": "google.protobuf.Timestamp",
        "duration": "google.protobuf.Duration",
    }.get(kind.kind, kind.kind)
    params = ", ".join(f"{{{_described(each)}}}" for each in kind.params)
    return f"type_name: {name}" + (f", params: [{params}]" if params else "")


@functools.cache
def _functions() -> Any:
    """Our functions, declared for the checker; they are never called there."""
    from cel_expr_python import cel

    from bamikube.api.cel.functions import DECLARED

    overloads: dict[str, list[Any]] = {}
    for each in DECLARED:
        overloads.setdefault(each.name, []).append(
            cel.Overload(
                each.overload,
                library_type(each.result),
                [library_type(param) for param in each.params],
                is_member=each.member,
            )
        )
    return cel.CelExtension("kubernetes", [cel.FunctionDecl(name, made) for name, made in overloads.items()])


def library_type(kind: Type) -> Any:
    """A type in the library's own form."""
    from cel_expr_python import cel

    simple = getattr(cel.Type, kind.kind.upper(), None) if kind.kind not in ("list", "map", "type") else None
    if simple is not None:
        return simple
    if kind.kind == "list":
        return cel.Type.List(library_type(kind.params[0]))
    if kind.kind == "map":
        return cel.Type.Map(library_type(kind.params[0]), library_type(kind.params[1]))
    if kind.kind == "object":
        return cel.Type(kind.name)
    if kind.kind == "opaque":
        return cel.Type.AbstractType(kind.name, [library_type(each) for each in kind.params])
    return cel.Type.DYN


def _pool(objects: tuple[ObjectType, ...]) -> Any:
    """A descriptor pool with the well-known messages, Kubernetes' opaque types and ``objects``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2

    pool = descriptor_pool.DescriptorPool()
    for module in (struct_pb2, timestamp_pb2, duration_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for data in _opaque_files():
        pool.AddSerializedFile(data)
    by_package: dict[str, list[ObjectType]] = {}
    for each in objects:
        by_package.setdefault(each.name.rpartition(".")[0], []).append(each)
    for package, members in by_package.items():
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
        for module in (struct_pb2, timestamp_pb2, duration_pb2):
            file.dependency.append(module.DESCRIPTOR.name)
        file.dependency.extend(name for name, _ in _opaque_packages())
        for each in members:
            _declare(file, each)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _opaque_packages() -> list[tuple[str, list[str]]]:
    from bamikube.api.cel.functions.model import OPAQUE

    packages: dict[str, list[str]] = {}
    for each in OPAQUE:
        package, _, name = each.name.rpartition(".")
        packages.setdefault(package, []).append(name)
    return [(f"opaque/{package}.proto", names) for package, names in packages.items()]


@functools.cache
def _opaque_files() -> tuple[bytes, ...]:
    from google.protobuf import descriptor_pb2

    made = []
    for name, members in _opaque_packages():
        package = name.removeprefix("opaque/").removesuffix(".proto")
        file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto2")
        for member in members:
            file.message_type.add(name=member)
        made.append(file.SerializeToString())
    return tuple(made)


def _declare(file: Any, declared: ObjectType) -> None:
    message = file.message_type.add(name=declared.name.rpartition(".")[2])
    message.options.deprecated_legacy_json_field_conflicts = True
    entries: set[str] = set(declared.fields)
    for number, (name, kind) in enumerate(declared.fields.items(), 1):
        if number >= 19000:
            number += 1000  # a range that protobuf keeps for itself
        nested = _entry_name(name)
        if kind.kind == "map" and kind.params[0].kind == "string" and nested not in entries:
            entries.add(nested)
            entry = message.nested_type.add(name=nested)
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=9, label=_OPTIONAL)
            entry.field.add(name="value", number=2, label=_OPTIONAL, **_field(kind.params[1]))
            message.field.add(
                name=name,
                number=number,
                label=_REPEATED,
                type=_MESSAGE,
                type_name=f".{declared.name}.{nested}",
                json_name=f"f{number}",
            )
        elif kind.kind == "list":
            message.field.add(
                name=name, number=number, label=_REPEATED, json_name=f"f{number}", **_field(kind.params[0])
            )
        else:
            message.field.add(
                name=name, number=number, label=_OPTIONAL, json_name=f"f{number}", **_field(kind)
            )


def _entry_name(field: str) -> str:
    """What protobuf calls the entries of a map: ``FooBarEntry`` of ``foo_bar``."""
    return "".join(part[:1].upper() + part[1:] for part in field.split("_")) + "Entry"


def _field(kind: Type) -> dict[str, Any]:
    """How protobuf declares one value of a type."""
    if kind.kind in _SCALARS:
        return {"type": _SCALARS[kind.kind]}
    if kind.kind == "object":
        return {"type": _MESSAGE, "type_name": f".{kind.name}"}
    return {"type": _MESSAGE, "type_name": _WELL_KNOWN.get(kind.kind, ".google.protobuf.Value")}
