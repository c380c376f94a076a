"""RFC 6455 frames: what is made is read back, however it arrives, and what breaks the rules is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.kit import websocket
from bamikube.kit.websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, Parser, Piece, ProtocolError

masks = st.binary(min_size=4, max_size=4)


def gathered(pieces: list[Piece]) -> list[tuple[int, bytes]]:
    """Whole messages and control frames, in the order in which they ended."""
    found: list[tuple[int, bytes]] = []
    message = b""
    for piece in pieces:
        if piece.opcode >= CLOSE:
            found.append((piece.opcode, piece.data))
            continue
        message += piece.data
        if piece.last:
            found.append((piece.opcode, message))
            message = b""
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


@given(st.binary(max_size=20_000), masks)
def test_masking_is_undone_by_masking(data: bytes, mask: bytes) -> None:
    by_hand = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    assert websocket.masked(data, mask) == by_hand
    assert websocket.masked(by_hand, mask) == data


messages = st.lists(
    st.tuples(st.sampled_from([BINARY, TEXT, PING, CLOSE]), st.binary(max_size=300)).map(
        lambda one: (one[0], one[1][:125] if one[0] >= CLOSE else one[1])
    ),
    max_size=8,
)


@given(messages, masks, st.lists(st.integers(0, 5000)))
def test_messages_arrive_however_they_are_cut(
    sent: list[tuple[int, bytes]], mask: bytes, places: list[int]
) -> None:
    for masking in (mask, b""):
        parser = Parser(masks=bool(masking))
        data = b"".join(websocket.frame(opcode, content, mask=masking) for opcode, content in sent)
        pieces = [piece for part in cut(data, places) for piece in parser.feed(part)]
        assert gathered(pieces) == sent


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_frames_of_every_length(size: int) -> None:
    data = websocket.frame(BINARY, b"x" * size, mask=b"abcd")
    assert gathered(Parser(masks=True).feed(data)) == [(BINARY, b"x" * size)]


def test_a_large_frame_is_handed_on_as_it_comes() -> None:
    parser = Parser(masks=True)
    data = websocket.frame(BINARY, b"y" * 1000, mask=b"\1\2\3\4")
    assert parser.feed(data[:7]) == []
    assert parser.feed(data[7:11]) == [Piece(BINARY, b"yyy", False)]
    assert parser.feed(data[11:]) == [Piece(BINARY, b"y" * 997, True)]


def test_control_frames_may_lie_inside_a_message() -> None:
    pieces = Parser(masks=False).feed(b"\x02\x02he" + b"\x89\x01p" + b"\x80\x03llo")
    assert pieces == [Piece(BINARY, b"he", False), Piece(PING, b"p", True), Piece(BINARY, b"llo", True)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xc2\x80\0\0\0\0", "reserved bit"),
        (b"\x82\x00", "not masked"),
        (b"\x83\x80\0\0\0\0", "opcode 3"),
        (b"\x80\x80\0\0\0\0", "has not begun"),
        (b"\x02\x80\0\0\0\0\x82\x80\0\0\0\0", "inside another"),
        (b"\x09\x80\0\0\0\0", "in parts"),
        (b"\x89\xfe\x00\x80\0\0\0\0", "too long"),
        (b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", "highest bit"),
    ],
)
def test_what_breaks_the_rules_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        Parser(masks=True).feed(data)


def test_a_server_must_not_mask() -> None:
    with pytest.raises(ProtocolError, match="is masked"):
        Parser(masks=False).feed(websocket.frame(BINARY, b"x", mask=b"abcd"))


def test_the_key_of_the_rfc() -> None:
    assert websocket.accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_fragmented_message_with_empty_end() -> None:
    pieces = Parser(masks=False).feed(bytes((BINARY, 1)) + b"a" + bytes((0x80 | CONTINUATION, 0)))
    assert gathered(pieces) == [(BINARY, b"a")]
