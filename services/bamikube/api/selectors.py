"""Selectors: which objects somebody means.

Four ways to say it, one compiled form:

* label selector strings of the command line and of ``?labelSelector=`` (:func:`parse_labels`):
  ``app=web,tier!=db,env in (a,b),!canary,cpu>4``;
* ``LabelSelector`` objects in specs (:func:`from_object`): ``matchLabels`` and ``matchExpressions``;
* plain maps of labels as services and replication controllers have them (:func:`from_map`);
* field selector strings of ``?fieldSelector=`` (:func:`parse_fields`): ``metadata.name=a,status.phase!=Running``.

A :class:`Requirement` is one condition; a :class:`LabelSelector` is all of them together. Requirements are kept
sorted by key, and ``str()`` gives the canonical string, so equal selectors have equal strings and parsing a selector's
string gives the selector back. ``matches`` takes the labels and is a closure over the compiled requirements, cheap
enough to run for every object of a list and every event of a watch.

Two traps of the semantics, both Kubernetes': ``!=`` and ``notin`` also choose objects that do not have the key at all;
and a ``null`` label selector chooses nothing while an empty one chooses everything.

The error messages are those of ``k8s.io/apimachinery/pkg/labels`` and ``pkg/fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bamikube.api import names
from bamikube.api.memory import remembered

IN, NOT_IN, EXISTS, DOES_NOT_EXIST = "In", "NotIn", "Exists", "DoesNotExist"
GREATER, LESS = "Gt", "Lt"
EQUALS, NOT_EQUALS = "=", "!="

Labels = Mapping[str, str]
Matcher = Callable[[Labels], bool]


class SelectorError(ValueError):
    """A selector that cannot be understood. The message is Kubernetes' own."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on labels. ``operator`` is In, NotIn, Exists, DoesNotExist, Gt, Lt, ``=`` or ``!=``.

    ``values`` are unique and sorted.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == DOES_NOT_EXIST:
            return f"!{self.key}"
        if self.operator in (EQUALS, NOT_EQUALS):
            return f"{self.key}{self.operator}{self.values[0]}"
        if self.operator in (GREATER, LESS):
            return f"{self.key}{'>' if self.operator == GREATER else '<'}{self.values[0]}"
        word = "in" if self.operator == IN else "notin"
        return f"{self.key} {word} ({','.join(self.values)})"

    def compile(self) -> Matcher:
        """The condition as a function of labels."""
        key, values = self.key, self.values
        match self.operator:
            case "Exists":
                return lambda labels: key in labels
            case "DoesNotExist":
                return lambda labels: key not in labels
            case "=" | "In" if len(values) == 1:
                value = values[0]
                return lambda labels: labels.get(key) == value
            case "!=" | "NotIn" if len(values) == 1:
                value = values[0]
                return lambda labels: labels.get(key) != value
            case "In":
                allowed = frozenset(values)
                return lambda labels: labels.get(key) in allowed
            case "NotIn":
                banned = frozenset(values)
                return lambda labels: labels.get(key) not in banned
            case _:
                return _compare(key, int(values[0]), self.operator == GREATER)


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def _integer(text: str) -> int | None:
    """A 64 bit integer, or None."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _compare(key: str, bound: int, greater: bool) -> Matcher:
    def matches(labels: Labels) -> bool:
        text = labels.get(key)
        number = _integer(text) if text is not None else None
        if number is None:  # no label, or not a number: neither greater nor less
            return False
        return number > bound if greater else number < bound

    return matches


def _nothing(labels: Labels) -> bool:
    return False


def _everything(labels: Labels) -> bool:
    return True


def _all_of(requirements: tuple[Requirement, ...]) -> Matcher:
    parts = tuple(requirement.compile() for requirement in requirements)
    if not parts:
        return _everything
    if len(parts) == 1:
        return parts[0]

    def matches(labels: Labels) -> bool:
        return all(part(labels) for part in parts)

    return matches


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements together. ``matches(labels)`` says whether labels fulfil them."""

    requirements: tuple[Requirement, ...] = ()
    none: bool = False  # chooses nothing at all
    matches: Matcher = field(default=_everything, compare=False, repr=False)

    @classmethod
    def of(cls, requirements: Iterable[Requirement]) -> LabelSelector:
        """A selector of checked requirements."""
        ordered = tuple(sorted(requirements, key=lambda requirement: requirement.key))
        return cls(ordered, False, _all_of(ordered))

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Chooses everything."""
        return not self.requirements and not self.none

    def matches_object(self, obj: Mapping[str, Any]) -> bool:
        """Whether an object's labels fulfil the selector."""
        return self.matches((obj.get("metadata") or {}).get("labels") or {})


EVERYTHING = LabelSelector()
NOTHING = LabelSelector((), True, _nothing)


def requirement(
    key: str, operator: str, values: Iterable[str] = (), *, check_values: bool = True
) -> Requirement:
    """A checked condition. Raises :class:`SelectorError`."""
    listed = tuple(sorted(set(values)))
    messages = names.is_qualified_name(key)
    if messages:
        raise SelectorError(f'key: Invalid value: "{key}": {"; ".join(messages)}')
    if operator in (IN, NOT_IN):
        if not listed:
            raise SelectorError(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
            )
    elif operator in (EQUALS, NOT_EQUALS):
        if len(listed) != 1:
            raise SelectorError(
                f"values: Invalid value: {_shown(listed)}: exact-match compatibility requires one single value"
            )
    elif operator in (EXISTS, DOES_NOT_EXIST):
        if listed:
            raise SelectorError(
                f"values: Invalid value: {_shown(listed)}: values set must be empty for exists and does not exist"
            )
    elif operator in (GREATER, LESS):
        if len(listed) != 1:
            raise SelectorError(
                f"values: Invalid value: {_shown(listed)}: for 'Gt', 'Lt' operators, exactly one value is required"
            )
        if _integer(listed[0]) is None:
            raise SelectorError(
                f"values[0]: Invalid value: \"{listed[0]}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
    else:
        known = '"in", "notin", "=", "==", "!=", "gt", "lt", "exists", "!"'
        raise SelectorError(f'operator: Unsupported value: "{operator}": supported values: {known}')
    if check_values:
        for index, value in enumerate(listed):
            messages = names.is_label_value(value)
            if messages:
                raise SelectorError(
                    f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(messages)}'
                )
    return Requirement(key, operator, listed)


def _shown(values: tuple[str, ...]) -> str:
    return "[" + ",".join(f'"{value}"' for value in values) + "]"


# --- strings -------------------------------------------------------------------------------------------------------

_SYMBOLS = ("==", "!=", "=", "!", "(", ")", ",", ">", "<")
_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|=|!|\(|\)|,|>|<|[^ \t\r\n=!(),><]+)")


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    position, end = 0, len(text.rstrip(" \t\r\n"))
    while position < end:
        match = _TOKEN.match(text, position)
        if not match:  # cannot happen: every character starts a token
            break
        found.append(match[1])
        position = match.end()
    return found


def _is_word(token: str) -> bool:
    return bool(token) and token not in _SYMBOLS


class _Reader:
    """One pass over the tokens of a label selector."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def selector(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            token = self.peek()
            if not token:
                if found:
                    raise SelectorError("found '', expected: identifier after ','")
                return found
            if token != "!" and not _is_word(token):
                raise SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            separator = self.take()
            if not separator:
                return found
            if separator != ",":
                raise SelectorError(f"found '{separator}', expected: ',' or 'end of string'")
            following = self.peek()
            if following != "!" and not _is_word(following):
                raise SelectorError(f"found '{following}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        absent = self.peek() == "!"
        if absent:
            self.take()
        key = self.take()
        if not _is_word(key):
            raise SelectorError(f"found '{key}', expected: identifier")
        messages = names.is_qualified_name(key)
        if messages:
            raise SelectorError(f'<nil>: Invalid value: "{key}": {"; ".join(messages)}')
        if absent:
            return requirement(key, DOES_NOT_EXIST)
        if self.peek() in ("", ","):
            return requirement(key, EXISTS)
        sign = self.take()
        if sign in ("in", "notin"):
            return requirement(key, IN if sign == "in" else NOT_IN, self.values())
        if sign in ("=", "=="):
            return requirement(key, EQUALS, [self.exact_value()])
        if sign == "!=":
            return requirement(key, NOT_EQUALS, [self.exact_value()])
        if sign in (">", "<"):
            return requirement(key, GREATER if sign == ">" else LESS, [self.exact_value()])
        raise SelectorError(f"found '{sign}', expected: in, notin, =, ==, !=, gt, lt")

    def exact_value(self) -> str:
        if self.peek() in ("", ","):  # "key=" asks for the empty value
            return ""
        value = self.take()
        if not _is_word(value):
            raise SelectorError(f"found '{value}', expected: identifier")
        return value

    def values(self) -> list[str]:
        opening = self.take()
        if opening != "(":
            raise SelectorError(f"found '{opening}' expected: '('")
        found: list[str] = []
        if self.peek() == ")":
            self.take()
            return [""]
        while True:
            token = self.take()
            if _is_word(token):
                found.append(token)
                token = self.take()
                if token == ")":
                    return found
                if token != ",":
                    raise SelectorError(f"found '{token}', expected: ',' or ')'")
                if self.peek() == ")":  # a trailing comma adds the empty value
                    self.take()
                    return [*found, ""]
            elif token == ",":
                found.append("")
                if self.peek() == ")":
                    self.take()
                    return [*found, ""]
            else:
                raise SelectorError(f"found '{token}', expected: ',', ')' or identifier")


@remembered(1024, 4096)
def parse_labels(text: str) -> LabelSelector:
    """The selector a string stands for; the empty string chooses everything.

    Raises :class:`SelectorError`, as in ``found '=', expected: ',' or 'end of string'``.
    """
    found = _Reader(_tokens(text)).selector()
    return LabelSelector.of(found) if found else EVERYTHING


# --- objects -------------------------------------------------------------------------------------------------------


def from_map(labels: Labels | None) -> LabelSelector:
    """Every label equal: ``spec.selector`` of a service. No labels choose nothing, as a service without selector."""
    if not labels:
        return NOTHING
    return LabelSelector.of(Requirement(key, EQUALS, (value,)) for key, value in labels.items())


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A ``metav1.LabelSelector``: ``None`` chooses nothing, ``{}`` everything.

    Raises :class:`SelectorError` for keys, operators or values out of rule.
    """
    if selector is None:
        return NOTHING
    found = [requirement(key, IN, [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = expression.get("operator", "")
        if operator not in (IN, NOT_IN, EXISTS, DOES_NOT_EXIST):
            raise SelectorError(f'"{operator}" is not a valid label selector operator')
        found.append(requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector.of(found) if found else EVERYTHING


def format_object(selector: Mapping[str, Any] | None) -> str:
    """A ``metav1.LabelSelector`` as tables print it: ``app=web``, ``<none>`` when empty, ``<error>`` when wrong."""
    try:
        chosen = from_object(selector)
    except SelectorError:
        return "<error>"
    plain = [
        Requirement(one.key, EQUALS, one.values) if one.operator == IN and len(one.values) == 1 else one
        for one in chosen.requirements
    ]
    return ",".join(str(one) for one in plain) or "<none>"


def from_node_requirements(expressions: Iterable[Mapping[str, Any]]) -> LabelSelector:
    """``matchExpressions`` of a node selector term: Gt and Lt too, and values need not be label values.

    Raises :class:`SelectorError`.
    """
    found = []
    for expression in expressions:
        operator = expression.get("operator", "")
        if operator not in (IN, NOT_IN, EXISTS, DOES_NOT_EXIST, GREATER, LESS):
            raise SelectorError(f'"{operator}" is not a valid node selector operator')
        values = expression.get("values") or ()
        found.append(requirement(expression.get("key", ""), operator, values, check_values=False))
    return LabelSelector.of(found)


# --- fields --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on a field. ``operator`` is ``=`` or ``!=``."""

    field: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.field}{self.operator}{_escaped(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions on fields. ``matches`` takes the fields' values by path, missing ones count as empty."""

    requirements: tuple[FieldRequirement, ...] = ()

    def __str__(self) -> str:
        return ",".join(str(one) for one in self.requirements)

    @property
    def empty(self) -> bool:
        """Chooses everything."""
        return not self.requirements

    def fields(self) -> tuple[str, ...]:
        """The paths asked for."""
        return tuple(one.field for one in self.requirements)

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether values by path, such as ``{"metadata.name": "a"}``, fulfil every condition."""
        return all(
            (fields.get(one.field, "") == one.value) == (one.operator == "=") for one in self.requirements
        )

    def exact(self, path: str) -> str | None:
        """The one value a field must have, if the selector says so: lets a list become a get."""
        for one in self.requirements:
            if one.field == path and one.operator == "=":
                return one.value
        return None


EVERY_FIELD = FieldSelector()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescaped(text: str) -> str:
    result: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, None)
            if following is None or following not in "\\,=":
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{following or ''}")
            result.append(following)
        elif character in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {character}")
        else:
            result.append(character)
    return "".join(result)


def _terms(text: str) -> list[str]:
    """The parts between unescaped commas."""
    parts: list[str] = []
    current: list[str] = []
    escaped = False
    for character in text:
        if character == "," and not escaped:
            parts.append("".join(current))
            current = []
            continue
        escaped = character == "\\" and not escaped
        current.append(character)
    parts.append("".join(current))
    return parts


@remembered(1024, 4096)
def parse_fields(text: str) -> FieldSelector:
    """The field selector a string stands for. Raises :class:`SelectorError`: ``invalid selector: ...``."""
    found: list[FieldRequirement] = []
    for term in _terms(text):
        if not term:
            continue
        position = min((at for at in (term.find("!="), term.find("=")) if at >= 0), default=-1)
        if position < 0:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        sign = next(sign for sign in ("!=", "==", "=") if term.startswith(sign, position))
        value = _unescaped(term[position + len(sign) :])
        found.append(FieldRequirement(term[:position], "!=" if sign == "!=" else "=", value))
    return FieldSelector(tuple(found)) if found else EVERY_FIELD
