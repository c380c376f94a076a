"""JSONPath as Kubernetes speaks it, for printer columns, scales and selectable fields.

::

    .spec.replicas                                a field
    .metadata.annotations.example\\.com/a          a dot that belongs to the name
    .metadata.annotations['example.com/a']        the same, quoted
    .spec.hosts[0]  .spec.hosts[-1]  [1:3]  [*]   elements
    .status.conditions[?(@.type=="Ready")].status elements that a comparison chooses
    ..name                                        any depth

A path is parsed once into steps, each a function from a list of values to a list of values. Source: Kubernetes'
"JSONPath Support" page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_NAME = re.compile(r"(?:[^.\[\]\\{}]|\\.)+")
_SLICE = re.compile(r"(-?\d*)(?::(-?\d*))?(?::(-?\d*))?\Z")
_QUOTED = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*\Z""")
_FILTER = re.compile(r"\?\(\s*(.+?)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?)\s*)?\)\Z")


class PathError(ValueError):
    """The path cannot be parsed; the text says why."""


def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path, with or without braces and a leading ``$``. Raises :class:`PathError`."""
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = text.removeprefix("$").removeprefix("@")
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text.startswith("..", at):
            steps.append(_descend)
            at += 2
            if at < len(text) and text[at] != "[":
                name, at = _name(text, at)
                steps.append(_all if name == "*" else _field(name))
        elif text[at] == ".":
            at += 1
            if at == len(text):
                break
            if text[at] == "[":
                continue
            name, at = _name(text, at)
            steps.append(_all if name == "*" else _field(name))
        elif text[at] == "[":
            end = _closing(text, at)
            steps.append(_bracket(text[at + 1 : end]))
            at = end + 1
        elif at == 0:
            name, at = _name(text, at)
            steps.append(_field(name))
        else:
            raise PathError(f"unexpected {text[at]!r} in {path!r}")
    return tuple(steps)


def find(steps: tuple[Step, ...], value: Any) -> list[Any]:
    """All values at the path."""
    found = [value]
    for step in steps:
        found = step(found)
        if not found:
            return []
    return found


def plain_fields(path: str) -> list[str] | None:
    """The names of a path that only walks down fields; None for any other path."""
    if not path.startswith("."):
        return None
    names: list[str] = []
    at = 0
    while at < len(path):
        if path[at] != ".":
            return None
        found = _NAME.match(path, at + 1)
        if found is None:
            return None
        names.append(_unescaped(found[0]))
        at = found.end()
    return names


def _name(text: str, at: int) -> tuple[str, int]:
    found = _NAME.match(text, at)
    if found is None:
        raise PathError(f"a name is missing at {text[at:]!r}")
    return _unescaped(found[0]), found.end()


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _closing(text: str, at: int) -> int:
    """Where the bracket that opens at ``at`` ends."""
    depth, quote = 0, ""
    position = at
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if not depth:
                return position
        position += 1
    raise PathError("unterminated array")


def _field(name: str) -> Step:
    return lambda values: [each[name] for each in values if isinstance(each, dict) and name in each]


def _all(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for each in values:
        found += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return found


def _descend(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    waiting = list(reversed(values))
    while waiting:
        each = waiting.pop()
        found.append(each)
        inner = list(each.values()) if isinstance(each, dict) else each if isinstance(each, list) else []
        waiting += reversed(inner)
    return found


def _bracket(inside: str) -> Step:
    if inside.strip() == "*":
        return _all
    if inside.startswith("?"):
        return _filter(inside)
    parts = _split(inside)
    if len(parts) > 1:
        steps = [_bracket(part) for part in parts]
        return lambda values: [found for step in steps for found in step(values)]
    quoted = _QUOTED.match(inside)
    if quoted is not None:
        return _field(_unescaped(quoted[1] if quoted[1] is not None else quoted[2]))
    numbers = _SLICE.match(inside.strip())
    if numbers is None or not inside.strip():
        raise PathError(f"invalid array index {inside!r}")
    if ":" not in inside:
        return _index(int(inside))
    low, high, step = (int(each) if each else None for each in numbers.groups())
    if step is not None and step <= 0:
        raise PathError(f"the step of {inside!r} must be positive")
    return lambda values: [each for one in values if isinstance(one, list) for each in one[low:high:step]]


def _split(inside: str) -> list[str]:
    parts, quote, start = [], "", 0
    for position, char in enumerate(inside):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == ",":
            parts.append(inside[start:position])
            start = position + 1
    return [*parts, inside[start:]]


def _index(number: int) -> Step:
    return lambda values: [
        each[number] for each in values if isinstance(each, list) and -len(each) <= number < len(each)
    ]


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _operand(text: str) -> Callable[[Any], list[Any]]:
    if text.startswith("@"):
        steps = parse(text)
        return lambda value: find(steps, value)
    quoted = _QUOTED.match(text)
    if quoted is not None:
        literal: Any = _unescaped(quoted[1] if quoted[1] is not None else quoted[2])
    elif text in ("true", "false"):
        literal = text == "true"
    else:
        try:
            literal = float(text) if "." in text else int(text)
        except ValueError:
            raise PathError(f"unrecognized operand {text!r}") from None
    return lambda value: [literal]


def _filter(inside: str) -> Step:
    match = _FILTER.match(inside.strip())
    if match is None:
        raise PathError(f"invalid filter {inside!r}")
    left = _operand(match[1])
    if match[2] is None:
        return lambda values: [each for one in values for each in _elements(one) if left(each)]
    compare, right = _COMPARE[match[2]], _operand(match[3])

    def holds(value: Any) -> bool:
        lefts, rights = left(value), right(value)
        try:
            return bool(lefts and rights) and compare(lefts[0], rights[0])
        except TypeError:
            return False

    return lambda values: [each for one in values for each in _elements(one) if holds(each)]


def _elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
