"""Property names that are no identifiers, and how expressions write them.

Words of the language get two underscores on each side; four characters have names of their own::

    namespace      -> __namespace__
    foo-bar        -> foo__dash__bar
    foo.bar        -> foo__dot__bar
    a__b           -> a__underscores__b

A name that cannot be written so (it begins with a digit, or has other characters) is out of reach of expressions.

Source: KEP-2876, "Field names".
"""

from __future__ import annotations

import functools
import re

RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_NAMES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_TO_ESCAPE = re.compile(r"__|[.\-/]")
_ESCAPED = re.compile(r"__underscores__|__dot__|__dash__|__slash__")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def escape(name: str) -> str | None:
    """The identifier of a property; None when it has none."""
    if name in RESERVED:
        return f"__{name}__"
    escaped = _TO_ESCAPE.sub(lambda match: _ESCAPES[match.group(0)], name)
    return escaped if _IDENTIFIER.match(escaped) else None


@functools.lru_cache(maxsize=4096)
def unescape(identifier: str) -> str:
    """The property of an identifier."""
    if "__" not in identifier:
        return identifier
    if identifier.startswith("__") and identifier.endswith("__") and identifier[2:-2] in RESERVED:
        return identifier[2:-2]
    return _ESCAPED.sub(lambda match: _NAMES[match.group(0)], identifier)
