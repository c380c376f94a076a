"""kubectl's dialect of JSONPath: templates of text and ``{expressions}``.

No library speaks it: ``{range .items[*]}{.metadata.name}{"\\n"}{end}`` is half template, half path. What is here:
fields (``.a.b``, ``['a.b']``, ``\\.`` for a dot in a name), ``[0]``, ``[-1]``, slices ``[a:b:c]``, unions
``['a','b']``, ``[*]`` and ``.*``, recursive descent ``..name``, filters ``[?(@.type=="Ready")]``, ``range``/``end``,
``@`` and ``$``, literals. Several results are printed with a blank between them; a missing field is nothing.

Source: "JSONPath Support" in the Kubernetes documentation.
"""

from __future__ import annotations

import json
import re
from typing import Any

from bamikube.cli.errors import CliError

_STEP = re.compile(r"\.\.|\.?\*|\.?((?:[^.\[\]\s\\*]|\\.)+)|\[")
_FILTER = re.compile(r"\?\(\s*(.+?)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?)\s*)?\)", re.DOTALL)


def wrong(message: str) -> CliError:
    return CliError(f"error: error parsing jsonpath: {message}")


def render(template: str, data: Any) -> str:
    """The text a template makes of ``data``. A template without braces is one expression."""
    if "{" not in template:
        template = "{" + (template if template.startswith((".", "[", "$", "@")) else "." + template) + "}"
    nodes, rest = _parse(_tokens(template))
    if rest:
        raise wrong("not in range, nothing to end")
    return _write(nodes, data, data)


def evaluate(expression: str, root: Any, current: Any) -> list[Any]:
    """All values a path leads to."""
    text = expression.strip()
    values = [root if text.startswith("$") else current]
    text = text.lstrip("$@")
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if not match:
            raise wrong(f"unexpected text {text[at:]!r} in {expression!r}")
        step = match[0]
        at = match.end()
        if step == "..":
            values = [one for value in values for one in _descend(value)]
        elif step.endswith("*") and match[1] is None:
            values = [one for value in values for one in _children(value)]
        elif step == "[":
            end = _closing(text, at)
            values = [one for value in values for one in _bracket(text[at:end].strip(), root, value)]
            at = end + 1
        else:
            name = re.sub(r"\\(.)", r"\1", match[1])
            values = [value[name] for value in values if isinstance(value, dict) and name in value]
    return values


def _closing(text: str, at: int) -> int:
    depth, quote = 1, ""
    for index in range(at, len(text)):
        character = text[index]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if not depth:
                return index
    raise wrong("unterminated array")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _descend(value: Any) -> list[Any]:
    return [value, *(deeper for child in _children(value) for deeper in _descend(child))]


def _bracket(inner: str, root: Any, value: Any) -> list[Any]:
    if inner == "*":
        return _children(value)
    if inner.startswith("?"):
        match = _FILTER.fullmatch(inner)
        if not match:
            raise wrong(f"unrecognized filter {inner!r}")
        return [one for one in _children(value) if _holds(match, root, one)]
    if inner[:1] in "'\"":
        keys = re.findall(r"'([^']*)'|\"([^\"]*)\"", inner)
        names = [single or double for single, double in keys]
        return [value[name] for name in names if isinstance(value, dict) and name in value]
    if not isinstance(value, list):
        return []
    found: list[Any] = []
    for part in inner.split(","):
        numbers = [int(number) if number.strip() else None for number in _numbers(part)]
        if len(numbers) > 1:
            found += value[slice(*numbers)]
        elif numbers[0] is not None and -len(value) <= numbers[0] < len(value):
            found.append(value[numbers[0]])
        else:
            raise CliError(
                f"error: error executing jsonpath: array index out of bounds: index {part}, length {len(value)}"
            )
    return found


def _numbers(part: str) -> list[str]:
    numbers = part.split(":")
    if (
        len(numbers) > 3
        or not all(re.fullmatch(r"\s*-?\d*\s*", number) for number in numbers)
        or not part.strip()
    ):
        raise wrong(f"invalid array index {part}")
    return numbers


def _holds(match: re.Match[str], root: Any, one: Any) -> bool:
    left = _operand(match[1], root, one)
    if match[2] is None:
        return bool(left)
    right = _operand(match[3], root, one)
    if not left or not right:
        return match[2] == "!=" and bool(left) != bool(right)
    a, b = left[0], right[0]
    try:
        return {
            "==": lambda: a == b,
            "!=": lambda: a != b,
            "<": lambda: a < b,
            "<=": lambda: a <= b,
            ">": lambda: a > b,
            ">=": lambda: a >= b,
        }[match[2]]()
    except TypeError:
        raise CliError("error: error executing jsonpath: incompatible types for comparison") from None


def _operand(text: str, root: Any, one: Any) -> list[Any]:
    if text[:1] in "@$.":
        return evaluate(text, root, one)
    if text[:1] in "'\"" and text[-1] == text[0]:
        return [text[1:-1]]
    try:
        return [json.loads(text)]
    except ValueError:
        raise wrong(f"unrecognized value {text!r} in filter") from None


# --- templates -----------------------------------------------------------------------------------------------------

Node = tuple[str, Any, list["Node"]]


def _tokens(template: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(template):
        brace = template.find("{", at)
        if brace < 0:
            found.append(("text", template[at:]))
            break
        if brace > at:
            found.append(("text", template[at:brace]))
        end, quote = brace + 1, ""
        while end < len(template) and (quote or template[end] != "}"):
            if quote:
                if template[end] == "\\":
                    end += 1
                elif template[end] == quote:
                    quote = ""
            elif template[end] in "'\"":
                quote = template[end]
            end += 1
        if end >= len(template):
            raise wrong("unclosed action")
        found.append(("code", template[brace + 1 : end].strip()))
        at = end + 1
    return found


def _parse(tokens: list[tuple[str, str]], inside: bool = False) -> tuple[list[Node], list[tuple[str, str]]]:
    nodes: list[Node] = []
    while tokens:
        (kind, text), tokens = tokens[0], tokens[1:]
        if kind == "text":
            nodes.append(("text", text, []))
        elif text == "end":
            if not inside:
                raise wrong("not in range, nothing to end")
            return nodes, tokens
        elif text.startswith("range"):
            body, tokens = _parse(tokens, True)
            nodes.append(("range", text.removeprefix("range").strip(), body))
        elif text[:1] in "'\"" and text:
            nodes.append(("text", _literal(text), []))
        else:
            nodes.append(("path", text, []))
    if inside:
        raise wrong("unterminated range")
    return nodes, []


def _literal(text: str) -> str:
    try:
        return str(
            json.loads('"' + text[1:-1].replace('"', '\\"').replace('\\\\"', '\\"') + '"', strict=False)
        )
    except ValueError:
        raise wrong(f"invalid text {text}") from None


def _write(nodes: list[Node], root: Any, current: Any) -> str:
    parts: list[str] = []
    for kind, content, body in nodes:
        if kind == "text":
            parts.append(content)
        elif kind == "range":
            parts += [_write(body, root, one) for one in evaluate(content, root, current)]
        else:
            parts.append(" ".join(text_of(value) for value in evaluate(content, root, current)))
    return "".join(parts)


def text_of(value: Any) -> str:
    """A value as text: strings as they are, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
