"""What Go's JSON decoder says of a text that is no JSON. People and tools match on its words.

It reads byte by byte and names the first byte that cannot stand where it stands, and what it was looking for::

    {"a": 1,}      invalid character '}' looking for beginning of object key string
    {"a" 1}        invalid character '1' after object key
    [1 2]          invalid character '2' after array element
    {"a": tru}     invalid character '}' in literal true (expecting 'e')
    {"a":          unexpected end of JSON input

Only texts that our own reader refused come here, and only their first 64 KiB are looked at: telling a
client what is wrong must not cost more than reading what is right.
"""

from __future__ import annotations

import re
from typing import Any

LOOKED_AT = 64 * 1024
MAX_DEPTH = 10_000
END = "unexpected end of JSON input"

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_LITERALS = {b"t": b"true", b"f": b"false", b"n": b"null"}
_KEY, _COLON, _MEMBER_END, _ELEMENT_END = "key", "colon", "member", "element"
_AFTER = {
    _COLON: "after object key",
    _MEMBER_END: "after object key:value pair",
    _ELEMENT_END: "after array element",
}


def kind_of(value: Any) -> str:
    """What Go's decoder calls a decoded value."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list | dict):
        return "array" if isinstance(value, list) else "object"
    return "number"


class _Wrong(Exception):
    """The text is wrong at this byte."""


def syntax_error(text: bytes) -> str | None:
    """What Go says of ``text``; None when it finds nothing wrong with it, or not within what is looked at."""
    whole = len(text) <= LOOKED_AT
    try:
        _Scanner(text[:LOOKED_AT]).scan()
    except _Wrong as wrong:
        return str(wrong)
    except IndexError:
        return END if whole else None
    return None


class _Scanner:
    """Reads one value. Running over the end of the text raises ``IndexError``."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def scan(self) -> None:
        """Raises :class:`_Wrong`."""
        within: list[str] = []  # what is awaited in each open array and object
        self._value(within)
        while within:
            self._space()
            byte = self._byte()
            match within[-1]:
                case "colon":
                    self._expect(byte, b":", _COLON)
                    within[-1] = _MEMBER_END
                    self._value(within)
                case "key":
                    self._key(byte)
                    within[-1] = _COLON
                case _:
                    self._next(byte, within)
        self._space()
        if self.at < len(self.text):
            raise self._wrong("after top-level value")

    def _next(self, byte: bytes, within: list[str]) -> None:
        """A comma, or the end of the innermost array or object."""
        awaited = within[-1]
        closing = b"}" if awaited == _MEMBER_END else b"]"
        if byte == closing:
            self.at += 1
            within.pop()
            return
        self._expect(byte, b",", awaited)
        if awaited == _MEMBER_END:
            within[-1] = _KEY
        else:
            self._value(within)

    def _expect(self, byte: bytes, wanted: bytes, awaited: str) -> None:
        if byte != wanted:
            raise self._wrong(_AFTER[awaited])
        self.at += 1

    def _key(self, byte: bytes) -> None:
        if byte != b'"':
            raise self._wrong("looking for beginning of object key string")
        self._string()

    def _value(self, within: list[str]) -> None:
        """One value; of an object only its first key, of an array only what comes before its first comma."""
        while self._opens(within):
            pass

    def _opens(self, within: list[str]) -> bool:
        """One value, or the beginning of one: whether an array began, whose first element comes next."""
        self._space()
        byte = self._byte()
        if byte in (b"{", b"["):
            if len(within) >= MAX_DEPTH:
                raise self._wrong("exceeded max depth")
            self.at += 1
            self._space()
            inner = self._byte()
            if inner == (b"}" if byte == b"{" else b"]"):
                self.at += 1
                return False
            within.append(_COLON if byte == b"{" else _ELEMENT_END)
            if byte == b"[":
                return True
            self._key(inner)
        elif byte == b'"':
            self._string()
        elif byte == b"-" or byte.isdigit():
            self._number(byte)
        elif byte in _LITERALS:
            self._literal(_LITERALS[byte])
        else:
            raise self._wrong("looking for beginning of value")
        return False

    def _string(self) -> None:
        self.at += 1
        while True:
            self._skip(_PLAIN)
            byte = self._byte()
            if byte == b'"':
                self.at += 1
                return
            if byte != b"\\":
                raise self._wrong("in string literal")
            self.at += 1
            escape = self._byte()
            if escape not in b'bfnrt\\/"u':
                raise self._wrong("in string escape code")
            self.at += 1
            for _ in range(4 if escape == b"u" else 0):
                if self._byte() not in b"0123456789abcdefABCDEF":
                    raise self._wrong("in \\u hexadecimal character escape")
                self.at += 1

    def _number(self, byte: bytes) -> None:
        if byte == b"-":
            self.at += 1
            byte = self._byte()
            if not byte.isdigit():
                raise self._wrong("in numeric literal")
        if byte == b"0":
            self.at += 1
        else:
            self._skip(_DIGITS)
        if self.text[self.at : self.at + 1] == b".":
            self.at += 1
            self._digits("after decimal point in numeric literal")
        if self.text[self.at : self.at + 1] in (b"e", b"E"):
            self.at += 1
            if self._byte() in (b"+", b"-"):
                self.at += 1
            self._digits("in exponent of numeric literal")

    def _digits(self, context: str) -> None:
        if not self._byte().isdigit():
            raise self._wrong(context)
        self._skip(_DIGITS)

    def _literal(self, word: bytes) -> None:
        for index in range(1, len(word)):
            self.at += 1
            wanted = word[index : index + 1]
            if self._byte() != wanted:
                raise self._wrong(f"in literal {word.decode()} (expecting '{wanted.decode()}')")
        self.at += 1

    def _space(self) -> None:
        self._skip(_SPACE)

    def _skip(self, pattern: re.Pattern[bytes]) -> None:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _byte(self) -> bytes:
        if self.at >= len(self.text):
            raise IndexError
        return self.text[self.at : self.at + 1]

    def _wrong(self, context: str) -> _Wrong:
        return _Wrong(f"invalid character {quoted(self.text[self.at])} {context}")


_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 39: "'", 92: "\\"}


def quoted(byte: int) -> str:
    """A byte as Go quotes a character: what stands above ASCII is taken for Latin-1."""
    if byte in _ESCAPES:
        return f"'\\{_ESCAPES[byte]}'"
    if 32 <= byte < 127 or (byte > 160 and byte != 173):
        return f"'{chr(byte)}'"
    return f"'\\x{byte:02x}'" if byte < 128 else f"'\\u{byte:04x}'"


def go_map(value: Any) -> str:
    """A decoded JSON value as Go's ``%+v`` prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_map(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_map, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
