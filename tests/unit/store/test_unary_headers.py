"""Header blocks: those of RFC 7541's appendix C, those that etcd sends, and those that nobody may send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.store.http2 import headers
from bamikube.store.http2.headers import BadBlock, Blocks, Head, decode

TEXT = st.text(st.characters(max_codepoint=255), max_size=300)


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        # C.2.1 to C.2.4
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [("custom-key", "custom-header")]),
        ("040c2f73616d706c652f70617468", [(":path", "/sample/path")]),
        ("100870617373776f726406736563726574", [("password", "secret")]),
        ("82", [(":method", "GET")]),
        # C.4.1, and C.6.1 with what Huffman codes of all lengths up to 13 bits say
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            [
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
            ],
        ),
        (
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            [
                (":status", "302"),
                ("cache-control", "private"),
                ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
                ("location", "https://www.example.com"),
            ],
        ),
        # C.5.3's cookie, Huffman coded (C.6.3)
        (
            "77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            [("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")],
        ),
    ],
)
def test_blocks_of_the_rfc(block: str, fields: list[tuple[str, str]]) -> None:
    assert decode(bytes.fromhex(block)) == fields


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_what_is_written_plainly_is_read_again(fields: list[tuple[str, str]]) -> None:
    assert decode(b"".join(headers.literal(*field) for field in fields)) == fields


@given(st.binary(max_size=80))
def test_any_bytes_are_a_block_or_a_bad_block(data: bytes) -> None:
    with contextlib.suppress(BadBlock):
        decode(data)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # entry 0
        b"\xbe",  # entry 62: the first of a dynamic table
        b"\x82\x3f\xe1\x1f",  # the table grows
        b"\x00\x01a\x81\xff" + b"\xff",  # padding of more than seven bits
        b"\x00\x01a\x84\xff\xff\xff\xff",  # the end-of-string symbol
        b"\x00\x01a\x05abc",  # cut
        b"\x00\x7f\xff\xff\xff\xff\xff\x0f",  # a length that never ends
        headers.literal(":status", "two hundred"),
        headers.literal("grpc-status", "-1"),
    ],
)
def test_what_nobody_may_send_is_refused(block: bytes) -> None:
    with pytest.raises(BadBlock):
        Blocks().read(block)


def test_a_block_is_read_once_and_the_oldest_is_forgotten() -> None:
    blocks = Blocks()
    first = headers.literal("grpc-status", "9") + headers.literal("grpc-message", "100%25 lost%0A%e2%82%ac")
    assert blocks.read(first) == Head(0, 9, "100% lost\n€")
    assert blocks.read(bytes(first)) is blocks.read(first)
    kept = blocks.read(first)
    for number in range(headers.REMEMBERED):
        blocks.read(headers.literal("date", str(number)))
    assert blocks.read(first) is not kept


def test_the_huffman_code_is_complete() -> None:
    assert sum(2 ** (30 - length) for length, _ in headers._CODES) == 2**30
