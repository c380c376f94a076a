"""What Go says of texts that are no JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.api import gojson

LOOKING = "looking for beginning of"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", gojson.END),
        (b'{"a":', gojson.END),
        (b'{"a', gojson.END),
        (b"[1", gojson.END),
        (b"-", gojson.END),
        (b"x", f"invalid character 'x' {LOOKING} value"),
        (b'{"a":}', f"invalid character '}}' {LOOKING} value"),
        (b'{"a":1,}', f"invalid character '}}' {LOOKING} object key string"),
        (b"{a:1}", f"invalid character 'a' {LOOKING} object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", f"invalid character ']' {LOOKING} value"),
        (b"{} {", "invalid character '{' after top-level value"),
        (b"01", "invalid character '1' after top-level value"),
        (b"[tru]", "invalid character ']' in literal true (expecting 'e')"),
        (b"[-x]", "invalid character 'x' in numeric literal"),
        (b"[1.]", "invalid character ']' after decimal point in numeric literal"),
        (b"[1e+]", "invalid character ']' in exponent of numeric literal"),
        (b'["\n"]', "invalid character '\\n' in string literal"),
        (b'["\\x"]', "invalid character 'x' in string escape code"),
        (b'["\\u00g0"]', "invalid character 'g' in \\u hexadecimal character escape"),
        (b"\x00", f"invalid character '\\x00' {LOOKING} value"),
        (b"\xff", f"invalid character '\u00ff' {LOOKING} value"),
        (b"'", f"invalid character '\\'' {LOOKING} value"),
        (b"[" * 10_001, "invalid character '[' exceeded max depth"),
    ],
)
def test_words_of_a_fault(text: bytes, words: str) -> None:
    assert gojson.syntax_error(text) == words


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.booleans())
def test_nothing_is_found_in_json(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode("utf-8", "surrogatepass")
    assert gojson.syntax_error(text) is None


@given(st.binary(max_size=30))
def test_whatever_comes_an_answer_is_found(text: bytes) -> None:
    try:
        json.loads(text.decode("latin-1"), parse_constant=lambda word: 1 / 0)
    except (ValueError, ZeroDivisionError):
        assert gojson.syntax_error(text)
    else:
        assert gojson.syntax_error(text) is None


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    long = b'{"a":"' + b"x" * gojson.LOOKED_AT
    assert gojson.syntax_error(long) is None
    assert gojson.syntax_error(b"{" + long)
