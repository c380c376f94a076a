"""exec by websocket v5 against a node that follows a script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bamikube.apiserver.subresources.translator import Translator, Wanted
from bamikube.kit import spdy, websocket
from bamikube.kit.spdy import Data, Opened
from bamikube.kit.tunnel import converse

MASK = b"mask"
EVERYTHING = Wanted(stdin=True, stdout=True, stderr=True)


class Talk:
    """A translator with a client and a node that remember what they were told."""

    def __init__(self, wanted: Wanted = EVERYTHING) -> None:
        self.translator = Translator(wanted, "the node is gone")
        self.node = spdy.Session()
        self.client = websocket.Parser(masks=False)
        self.streams: dict[str, int] = {}
        self.ended = False
        said = self.translator.opening()
        self.first = self._told(said)[0]
        for event in self.opened:
            self.streams[event.headers["streamtype"]] = event.stream

    def _told(self, said: Any) -> tuple[list[tuple[int, bytes]], list[spdy.Event]]:
        messages = [(piece.opcode, piece.data) for piece in self.client.feed(b"".join(said.left))]
        events = self.node.feed(b"".join(said.right))
        self.opened = [event for event in events if isinstance(event, Opened)]
        self.ended = said.end
        return messages, events

    def reply(self) -> None:
        for stream in self.streams.values():
            assert not self.translator.opened
            self.translator.from_node(self.node.reply(stream))
        assert self.translator.opened

    def sends(self, *frames: bytes) -> tuple[list[tuple[int, bytes]], list[spdy.Event]]:
        return self._told(self.translator.from_client(b"".join(frames)))

    def node_sends(self, *frames: bytes) -> tuple[list[tuple[int, bytes]], list[spdy.Event]]:
        return self._told(self.translator.from_node(b"".join(frames)))


def message(*data: int | bytes) -> bytes:
    content = b"".join(bytes((one,)) if isinstance(one, int) else one for one in data)
    return websocket.frame(websocket.BINARY, content, mask=MASK)


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.reply()
    return talk


@pytest.mark.parametrize(
    ("wanted", "streams"),
    [
        (EVERYTHING, ["error", "stdin", "stdout", "stderr"]),
        (Wanted(stdout=True), ["error", "stdout"]),
        (Wanted(stdin=True, stdout=True, stderr=True, tty=True), ["error", "stdin", "stdout", "resize"]),
    ],
)
def test_streams_follow_from_what_is_wanted(wanted: Wanted, streams: list[str]) -> None:
    talk = Talk(wanted)
    assert list(talk.streams) == streams
    assert list(talk.streams.values()) == [1, 3, 5, 7][: len(streams)]
    assert talk.first == [(websocket.BINARY, b"\x01")]


def test_input_reaches_its_stream_and_ends(talk: Talk) -> None:
    stdin = talk.streams["stdin"]
    assert talk.sends(message(0, b"hi\n"), message(255, 0)) == (
        [],
        [Data(stdin, b"hi\n", False), Data(stdin, b"", True)],
    )
    assert talk.sends(message(0, b"too late")) == ([], [])


def test_a_message_in_parts_and_a_large_one(talk: Talk) -> None:
    stdin = talk.streams["stdin"]
    frame = message(0, b"abcdef")
    assert talk.sends(frame[:8])[1] == [Data(stdin, b"a", False)]
    assert talk.sends(frame[8:])[1] == [Data(stdin, b"bcdef", False)]
    parts = talk.sends(message(0, b"x" * 100_000))[1]
    assert [len(part.data) for part in parts if isinstance(part, Data)] == [32768, 32768, 32768, 1696]


def test_what_is_not_the_client_s_to_say_is_passed_over(talk: Talk) -> None:
    strange = (
        message(1, b"x"),
        message(3, b"{}"),
        message(4, b"{}"),
        message(9, b"x"),
        message(),
        message(255),
    )
    assert talk.sends(*strange, message(255, 1), message(255, 77)) == ([], [])
    assert talk.sends(message(0, b"still there"))[1] == [Data(talk.streams["stdin"], b"still there", False)]


def test_output_comes_in_order_and_the_status_last(talk: Talk) -> None:
    out, err, status = talk.streams["stdout"], talk.streams["stderr"], talk.streams["error"]
    verdict = b'{"status":"Success"}'
    assert talk.node_sends(spdy.data(out, b"one"), spdy.data(err, b"two"), spdy.data(status, verdict))[0] == [
        (2, b"\x01one"),
        (2, b"\x02two"),
    ]
    assert talk.node_sends(spdy.data(status, fin=True), spdy.data(out, b"three", fin=True))[0] == [
        (2, b"\x01three")
    ]
    assert not talk.ended
    assert talk.node_sends(spdy.data(err, fin=True))[0] == [(2, b"\x03" + verdict), (8, b"\x03\xe8")]
    assert talk.ended and not talk.translator.lost


def test_an_end_without_a_status_is_a_success(talk: Talk) -> None:
    ends = [spdy.data(talk.streams[name], fin=True) for name in ("stdout", "stderr")]
    told = talk.node_sends(*ends, spdy.reset(talk.streams["error"]))[0]
    assert json.loads(told[0][1][1:]) == {"metadata": {}, "status": "Success"}


def test_a_status_that_is_whole_counts_though_the_end_of_its_stream_is_lost(talk: Talk) -> None:
    """A reset after the last words may take the frames along that end the streams."""
    verdict = b'{"metadata":{},"status":"Success"}'
    talk.node_sends(spdy.data(talk.streams["error"], verdict))
    assert talk.node_sends(b"")[0] == [(2, b"\x03" + verdict), (8, b"\x03\xe8")]
    assert talk.ended and not talk.translator.lost


@pytest.mark.parametrize("last", [b"", bytes.fromhex("80020006 00000004 00000001")])
def test_a_node_that_is_lost_is_a_failure(talk: Talk, last: bytes) -> None:
    talk.node_sends(spdy.data(talk.streams["error"], b'{"half'))
    told = talk.node_sends(last)[0]
    status = json.loads(told[0][1][1:])
    assert (status["status"], status["reason"], status["code"]) == ("Failure", "InternalError", 500)
    assert "the node is gone" in status["message"]
    assert talk.ended and talk.translator.lost


def test_pings_are_answered_on_both_sides(talk: Talk) -> None:
    assert talk.sends(websocket.frame(websocket.PING, b"p", mask=MASK)) == ([(websocket.PONG, b"p")], [])
    assert talk.node_sends(spdy.ping(2), spdy.ping(1)) == ([], [spdy.Ping(2)])


def test_a_client_that_closes_or_breaks_the_rules_is_closed() -> None:
    talk = Talk()
    assert talk.sends(websocket.close_frame(1000, "bye", mask=MASK))[0] == [(8, b"\x03\xe8")]
    assert talk.ended
    talk = Talk()
    ((opcode, content),) = talk.sends(websocket.frame(websocket.BINARY, b"not masked"))[0]
    assert (opcode, content[:2]) == (8, b"\x03\xea") and b"not masked" in content
    assert talk.ended


class Wire:
    """A connection whose other end is the test. ``room`` is cleared while its writer has to wait."""

    half_closable = False

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes] = asyncio.Queue()
        self.told = bytearray()
        self.room = asyncio.Event()
        self.room.set()
        self.broken = self.closed = False

    async def read(self) -> bytes:
        return await self.coming.get()

    async def write(self, data: bytes) -> None:
        if self.broken:
            raise ConnectionResetError
        self.told += data
        await self.room.wait()

    async def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True


async def run_out(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_input_nobody_takes_holds_up_the_client_and_not_the_output() -> None:
    talk, client, node = Talk(Wanted(stdin=True, stdout=True)), Wire(), Wire()
    talk.reply()
    node.room.clear()
    work = asyncio.ensure_future(
        converse(client, node, talk.translator.from_client, talk.translator.from_node)
    )
    for _ in range(3):
        client.coming.put_nowait(message(0, b"x" * 10))
    await run_out()
    assert client.coming.qsize() == 2  # the first waits at the node, the others are not read
    node.coming.put_nowait(spdy.data(talk.streams["stdout"], b"out"))
    await run_out()
    assert client.told == b"\x82\x04\x01out"
    node.room.set()
    await run_out()
    assert client.coming.qsize() == 0
    client.coming.put_nowait(b"")
    await asyncio.wait_for(work, 5)
    assert client.closed and node.closed


async def test_a_node_that_takes_no_more_input_may_still_speak() -> None:
    talk, client, node = Talk(Wanted(stdin=True, stdout=True)), Wire(), Wire()
    talk.reply()
    node.broken = True
    work = asyncio.ensure_future(
        converse(client, node, talk.translator.from_client, talk.translator.from_node)
    )
    client.coming.put_nowait(message(0, b"into the void"))
    await run_out()
    frames = [
        spdy.data(talk.streams["stdout"], b"last", fin=True),
        spdy.data(talk.streams["error"], fin=True),
    ]
    node.coming.put_nowait(b"".join(frames))
    await run_out()
    assert b"\x01last" in client.told and b"Success" in client.told
    assert not client.closed  # it may be sending still, and must hear the end
    client.coming.put_nowait(b"")
    await asyncio.wait_for(work, 5)
    assert client.closed and node.closed


def test_the_end_of_input_does_not_detach_from_a_terminal() -> None:
    """``echo ls | kubectl run -it``: the runtime would close the output before the command has printed anything."""
    talk = Talk(Wanted(stdin=True, stdout=True, tty=True, attached=True))
    talk.reply()
    assert talk.translator.from_client(message(255, b"\x00")).right == []
    ended = Talk(Wanted(stdin=True, stdout=True, tty=True))
    ended.reply()
    assert ended.translator.from_client(message(255, b"\x00")).right == [
        spdy.data(ended.streams["stdin"], fin=True)
    ]
