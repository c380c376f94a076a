"""SPDY/3.1 frames: what one end makes the other reads, however it arrives; damage is an error and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bamikube.kit import spdy
from bamikube.kit.spdy import Data, GoAway, Opened, Ping, ProtocolError, Replied, Reset, Session

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
headers = st.dictionaries(names, st.text(max_size=30).filter(lambda t: t.isprintable()), max_size=5)
streams = st.integers(1, 2**31 - 1)
said = st.lists(
    st.one_of(
        st.builds(Opened, streams, headers, st.booleans()),
        st.builds(Replied, streams, headers, st.booleans()),
        st.builds(Data, streams, st.binary(max_size=100), st.booleans()),
        st.builds(Reset, streams, st.integers(1, 11)),
        st.builds(Ping, st.integers(0, 2**32 - 1)),
        st.builds(GoAway, streams, st.integers(0, 2)),
    ),
    max_size=10,
)


def framed(session: Session, event: spdy.Event) -> bytes:
    match event:
        case Opened(stream, head, fin):
            return session.open(stream, head, fin=fin)
        case Replied(stream, head, fin):
            return session.reply(stream, head, fin=fin)
        case Data(stream, content, fin):
            return spdy.data(stream, content, fin=fin)
        case Reset(stream, status):
            return spdy.reset(stream, status)
        case Ping(id):
            return spdy.ping(id)
        case GoAway(last, status):
            return spdy.go_away(last, status)


def joined(events: list[spdy.Event]) -> list[spdy.Event]:
    """Parts of a DATA frame put together again: an unfinished part is followed by its rest."""
    found: list[spdy.Event] = []
    for event in events:
        before = found[-1] if found else None
        if (
            isinstance(event, Data)
            and isinstance(before, Data)
            and before.stream == event.stream
            and not before.fin
        ):
            found[-1] = Data(event.stream, before.data + event.data, event.fin)
        else:
            found.append(event)
    return found


@given(said, st.lists(st.integers(0, 2000)))
def test_what_one_end_says_the_other_hears(events: list[spdy.Event], places: list[int]) -> None:
    one, other = Session(), Session()
    data = b"".join(framed(one, event) for event in events)
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    heard = [event for a, b in itertools.pairwise(ends) for event in other.feed(data[a:b])]
    assert joined(heard) == joined(events)


@given(said, st.data())
def test_damage_is_an_error_and_nothing_else(events: list[spdy.Event], choice: st.DataObject) -> None:
    data = bytearray(b"".join(framed(Session(), event) for event in events))
    for _ in range(choice.draw(st.integers(1, 4)) if data else 0):
        data[choice.draw(st.integers(0, len(data) - 1))] = choice.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        Session().feed(bytes(data))


def test_the_dictionary_is_the_draft_s() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2
    frame = Session().open(1, {"streamtype": "stdin"})
    assert frame[:8] == bytes.fromhex("80030001 000000") + bytes((len(frame) - 8,))
    assert frame[20:24] == bytes.fromhex("e3c6a7c2")  # the checksum in the zlib header


def test_headers_are_compressed_as_one_stream() -> None:
    session = Session()
    first, second = session.open(1, {"streamtype": "error"}), session.open(3, {"streamtype": "error"})
    assert len(second) < len(first)
    assert Session().feed(first + second) == [
        Opened(1, {"streamtype": "error"}, False),
        Opened(3, {"streamtype": "error"}, False),
    ]


def test_frames_that_mean_nothing_to_us_are_passed_over() -> None:
    settings = bytes.fromhex("80030004 00000004 00000000")
    window = bytes.fromhex("80030009 00000008 00000001 00001000")
    assert Session().feed(settings + window + spdy.ping(2)) == [Ping(2)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes.fromhex("80020006 00000004 00000001"), "version 2"),
        (bytes.fromhex("80030006 00000000"), "type 6 with 0 bytes"),
        (bytes.fromhex("80030001 00ffffff"), "16777215 bytes"),
        (bytes.fromhex("80030002 00000008 00000001 01020304"), "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        Session().feed(data)


def test_a_header_block_that_grows_without_end_is_refused() -> None:
    bomb = Session().open(1, {"x": "a" * 5_000_000})
    with pytest.raises(ProtocolError, match="more than"):
        Session().feed(bomb)
