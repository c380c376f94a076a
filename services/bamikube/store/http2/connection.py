"""One HTTP/2 connection to a gRPC server, for calls of one request.

A call is a stream of its own::

    ours    HEADERS (path, deadline ...)   DATA (message), END_STREAM
    theirs  HEADERS (:status 200)          DATA (message)             HEADERS (grpc-status), END_STREAM

* What is sent within one turn of the event loop leaves in one write (under TLS: in one record).
* A body goes out at once when the server's windows have room for it, else piece by piece as room is made. A call
  over the server's limit of concurrent streams waits its turn, unsent.
* Windows of ours are wide, and made wide again when half of them is used.
* A server that is silent for ``SILENCE`` seconds while calls run is pinged, and given up when it stays silent for as
  long again. Nothing is pinged while nobody waits: etcd takes that for abuse, and pings closer than 5 s apart, too.
* After GOAWAY no call is begun here any more, and what runs may end; a flow, which would never, ends at once.
* Calls that never left, and those of which the server says that it has not begun them (RST_STREAM with REFUSED_STREAM,
  streams beyond GOAWAY's last; section 8.7), are begun anew. No other call is sent twice.

Nothing here waits. A call's outcome is a future; deadlines and the choice of a connection are the client's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

from grpc import StatusCode

from bamikube.store.http2 import frames
from bamikube.store.http2.call import OF_RESET, REFUSALS, Call
from bamikube.store.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    unpack_head,
    unpack_long,
)
from bamikube.store.http2.headers import NO_TABLE, BadBlock, Blocks

log = logging.getLogger(__name__)

TICK = 1.0  # seconds
SILENCE = 4  # ticks: less than half of a call's deadline, so that a read can be asked again elsewhere
PING_GAP = 6  # ticks between two pings, at least
MAX_BLOCK = 64 * 1024  # bytes of headers


class Broken(Exception):
    """The server breaks the protocol; the connection is of no use any more."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Connection(asyncio.Protocol):
    """``greeted`` is done when the server has shown that it speaks HTTP/2, ``gone`` is set when no call can be begun
    any more. ``orphans`` takes the calls that have never left when that happens."""

    def __init__(self, name: str, orphans: Callable[[list[Call]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.name = name
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self.gone = asyncio.Event()
        self.leaving = False  # as gone; looked at for every call
        self._orphans = orphans
        self.on_lost: Callable[[], object] = lambda: None
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._rest = b""
        self._blocks = Blocks()
        self._block: tuple[int, int, bytes] | None = (
            None  # stream, flags and beginning of an unfinished block
        )
        self._calls: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()  # over the limit of streams
        self._blocked: list[Call] = []  # with a body that has not left wholly, oldest first
        self._next = 1
        self._limit = frames.MAX_STREAM  # concurrent streams
        self._window = frames.DEFAULT_WINDOW  # bytes the server takes on the connection
        self._stream_window = frames.DEFAULT_WINDOW
        self._frame = DEFAULT_FRAME
        self._received = 0  # bytes since the connection's window was made wide
        self.why = "the connection was closed"
        self._ticking = False
        self._heard = False
        self._silent = 0
        self._since_ping = PING_GAP
        self.doubtful = False  # a ping is out and nothing has come back yet

    # ---- calls

    def start(self, call: Call) -> None:
        """Send the call, or let it wait until the server takes another one."""
        call.connection = self
        if len(self._calls) >= self._limit or self._waiting:
            self._waiting.append(call)
        else:
            self._send(call)

    def drop(self, call: Call) -> None:
        """Nobody wants the call's outcome any more."""
        if self._calls.get(call.stream) is call:
            self._write(frames.rst_stream(call.stream, frames.CANCEL))
            self._end(call)
        elif call in self._waiting:
            self._waiting.remove(call)

    def _send(self, call: Call) -> None:
        stream, block, body = self._next, call.block, call.body
        self._next = stream + 2
        if stream == 1:
            block = NO_TABLE + block
        call.stream = stream
        self._calls[stream] = call
        size = len(body)
        begin = frames.head(len(block), HEADERS, END_HEADERS, stream) + block
        if not self._blocked and size <= self._frame and size <= self._window and size <= self._stream_window:
            self._window -= size
            call.sent = size
            self._write(begin + frames.head(size, DATA, END_STREAM if call.ends else 0, stream) + body)
        else:
            call.window = self._stream_window
            self._write(begin)
            self._blocked.append(call)
            self._pump()
        if not self._ticking:
            self._ticking, self._silent = True, 0
            self._loop.call_later(TICK, self._tick)
        if self._next > frames.MAX_STREAM:
            self._leave("the connection has no stream numbers left")

    def _pump(self) -> None:
        """Send as much of the waiting bodies as the windows allow, the oldest first."""
        left = []
        for call in self._blocked:
            body, size = call.body, len(call.body)
            while call.sent < size:
                piece = min(size - call.sent, self._frame, self._window, call.window)
                if piece <= 0:
                    left.append(call)
                    break
                end = call.sent + piece
                flags = END_STREAM if end == size and call.ends else 0
                self._write(frames.head(piece, DATA, flags, call.stream) + body[call.sent : end])
                call.sent = end
                call.window -= piece
                self._window -= piece
        self._blocked = left

    def _end(self, call: Call) -> None:
        """The call's stream is over: make room for the next one."""
        self._forget(call)
        self._admit()

    def _forget(self, call: Call) -> None:
        del self._calls[call.stream]
        if call.sent < len(call.body):
            self._blocked = [one for one in self._blocked if one is not call]

    def _admit(self) -> None:
        """Begin what waits, as far as the server takes it; close when nothing is left to be done here."""
        while self._waiting and len(self._calls) < self._limit:
            self._send(self._waiting.popleft())
        if not self._calls and self.leaving:
            self.close()

    def _finish(self, call: Call) -> None:
        """The server has said its last word on the call."""
        if call.sent < len(call.body) or not call.ends:
            self._write(frames.rst_stream(call.stream, frames.NO_ERROR))
        self._end(call)
        call.settle()

    def widen(self, call: Call) -> None:
        """Let the server send more on the call's stream, if it has used half of what it may."""
        if call.received >= frames.STREAM_WINDOW // 2 and call.stream in self._calls:
            self._write(frames.window_update(call.stream, call.received))
            call.received = 0

    # ---- writing

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # ---- the socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._write(frames.PREFACE)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        try:
            while size - at >= frames.HEAD:
                high, low, kind, flags, stream = unpack_head(data, at)
                length = high << 16 | low
                if length > DEFAULT_FRAME:
                    raise Broken(frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                start = at + frames.HEAD
                end = start + length
                if end > size:
                    break
                at = end
                stream &= frames.MAX_STREAM
                if self._block is not None and kind != CONTINUATION:
                    raise Broken(frames.PROTOCOL_ERROR, "a block of headers is interrupted")
                if kind == DATA:
                    self._data(stream, flags, data, start, end)
                elif kind == HEADERS:
                    self._headers(stream, flags, data[start:end])
                else:
                    self._other(kind, stream, flags, data[start:end])
        except Broken as broken:
            self._break(broken)
            return
        self._rest = data[at:] if at < size else b""

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:
            self.why = f"the connection broke: {exc}"
        self._transport = None
        self.on_lost()
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(self.why))
            self.greeted.exception()
        self._leave(self.why)
        calls, self._calls, self._blocked = self._calls, {}, []
        for call in calls.values():
            call.fail(StatusCode.UNAVAILABLE, self.why)

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def abort(self, why: str) -> None:
        """Give the connection up at once."""
        self.why = why
        if self._transport is not None:
            self._transport.abort()

    def _leave(self, why: str) -> None:
        """Begin no more calls here."""
        if self.leaving:
            return
        self.why = why
        self.leaving = True
        self.gone.set()
        for call in [one for one in self._calls.values() if not one.ends]:
            self._write(frames.rst_stream(call.stream, frames.CANCEL))
            self._forget(call)
            call.fail(StatusCode.UNAVAILABLE, why)
        waiting, self._waiting = list(self._waiting), deque()
        self._orphans(waiting)
        if not self._calls:
            self.close()

    def _break(self, broken: Broken) -> None:
        log.warning("%s breaks HTTP/2: %s", self.name, broken)
        self.why = f"the server broke the protocol: {broken}"
        self._out.append(frames.goaway(broken.code, str(broken)))
        self._flush()
        self._rest = b""
        if self._transport is not None:
            self._transport.abort()

    def _tick(self) -> None:
        """Another second has passed with calls running."""
        self._since_ping += 1
        if self._heard:
            self._heard, self._silent, self.doubtful = False, 0, False
        else:
            self._silent += 1
        if not self._calls or self._transport is None:
            self._ticking = self.doubtful = False
            return
        if self.doubtful and self._since_ping >= SILENCE:
            self.abort(f"the server said nothing for {self._silent * TICK:g} s")
            return
        if self._silent >= SILENCE and not self.doubtful and self._since_ping >= PING_GAP:
            self._since_ping, self.doubtful = 0, True
            self._write(frames.ping(b"bamikube", ack=False))
        self._loop.call_later(TICK, self._tick)

    # ---- frames

    def _data(self, stream: int, flags: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        self._received += size
        if self._received >= frames.CONNECTION_WINDOW // 2:
            self._write(frames.window_update(0, self._received))
            self._received = 0
        call = self._calls.get(stream)
        if call is None:
            self._known(stream)
            return
        if flags & PADDED:
            start, end = _unpadded(data, start, end)
        call.receive(data[start:end])
        if flags & END_STREAM:
            self._finish(call)
            return
        call.received += size
        if call.hungry:
            self.widen(call)

    def _headers(self, stream: int, flags: int, payload: bytes) -> None:
        if flags & (PADDED | PRIORITY_FLAG):
            start, end = _unpadded(payload, 0, len(payload)) if flags & PADDED else (0, len(payload))
            start += 5 if flags & PRIORITY_FLAG else 0
            payload = payload[start:end]
        if not flags & END_HEADERS:
            self._block = (stream, flags, payload)
            return
        try:
            head = self._blocks.read(payload)
        except BadBlock as bad:
            raise Broken(frames.COMPRESSION_ERROR, str(bad)) from None
        call = self._calls.get(stream)
        if call is None:
            self._known(stream)
            return
        if head.grpc is not None or call.head is None or call.head.http < 200:
            call.head = head  # the last word counts; informational answers are none
        if flags & END_STREAM:
            self._finish(call)

    def _other(self, kind: int, stream: int, flags: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._widened(stream, payload)
        elif kind == PING:
            if len(payload) != 8:
                raise Broken(frames.FRAME_SIZE_ERROR, "a PING that is not 8 bytes long")
            if not flags & ACK:
                self._write(frames.ping(payload, ack=True))
        elif kind == SETTINGS:
            if not flags & ACK:
                self._settings(payload)
        elif kind == RST_STREAM:
            self._reset(stream, payload)
        elif kind == GOAWAY:
            self._goaway(payload)
        elif kind == CONTINUATION:
            self._continued(stream, flags, payload)
        elif kind == PUSH_PROMISE:
            raise Broken(frames.PROTOCOL_ERROR, "a promise that was not allowed")
        # Kinds that nobody knows are no mistake (section 5.5).

    def _continued(self, stream: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream:
            raise Broken(frames.PROTOCOL_ERROR, "a block of headers goes on that has not begun")
        first, begun = self._block[1], self._block[2] + payload
        if len(begun) > MAX_BLOCK:
            raise Broken(frames.ENHANCE_YOUR_CALM, f"more than {MAX_BLOCK} bytes of headers")
        self._block = None
        whole = first & END_STREAM | flags & END_HEADERS
        self._headers(stream, whole, begun)

    def _settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise Broken(frames.FRAME_SIZE_ERROR, "settings that are cut")
        for name, value in frames.read_settings(payload):
            if name == frames.MAX_CONCURRENT_STREAMS:
                self._limit = value
            elif name == frames.MAX_FRAME_SIZE:
                self._frame = value
            elif name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise Broken(frames.FLOW_CONTROL_ERROR, "a window that is too wide")
                for call in self._blocked:
                    call.window += value - self._stream_window
                self._stream_window = value
        self._write(frames.head(0, SETTINGS, ACK, 0))
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._pump()
        self._admit()

    def _widened(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(frames.FRAME_SIZE_ERROR, "a WINDOW_UPDATE that is not 4 bytes long")
        more = unpack_long(payload, 0)[0] & frames.MAX_WINDOW
        if stream == 0:
            self._window += more
            if self._window > frames.MAX_WINDOW or not more:
                raise Broken(frames.FLOW_CONTROL_ERROR, f"the window grows by {more} to {self._window}")
        else:
            call = self._calls.get(stream)
            if call is None or call.sent == len(call.body):
                return
            call.window += more
            if call.window > frames.MAX_WINDOW or not more:
                raise Broken(frames.FLOW_CONTROL_ERROR, f"a stream's window grows by {more}")
        if self._blocked:
            self._pump()

    def _reset(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(frames.FRAME_SIZE_ERROR, "a RST_STREAM that is not 4 bytes long")
        call = self._calls.get(stream)
        if call is None:
            self._known(stream)
            return
        code = unpack_long(payload, 0)[0]
        self._forget(call)
        if code == frames.REFUSED_STREAM and call.refuse():
            if self.leaving:
                self._orphans([call])
            else:
                self._waiting.appendleft(call)
            if any(one.ends for one in self._calls.values()):
                # A server may still count a stream whose end it has sent: the next goes when one more has ended.
                return
        else:
            call.fail(
                OF_RESET.get(code, StatusCode.INTERNAL), f"the server reset the call (HTTP/2 error {code})"
            )
        self._admit()

    def _goaway(self, payload: bytes) -> None:
        if len(payload) < 8:
            raise Broken(frames.FRAME_SIZE_ERROR, "a GOAWAY that is cut")
        last = unpack_long(payload, 0)[0] & frames.MAX_STREAM
        code = unpack_long(payload, 4)[0]
        text = payload[8:].decode("utf-8", "replace")
        why = f"the server closes the connection (HTTP/2 error {code}{': ' + text if text else ''})"
        (log.warning if code else log.info)("%s: %s", self.name, why)
        unknown = [call for call in self._calls.values() if call.stream > last]
        for call in unknown:
            self._forget(call)
        self._leave(why)
        self._orphans([call for call in unknown if call.refuse()])
        for call in unknown:
            if call.refused >= REFUSALS:
                call.fail(StatusCode.UNAVAILABLE, why)
        self._admit()

    def _known(self, stream: int) -> None:
        """A frame of a call that is over is late; one of a stream that never was is a mistake."""
        if stream == 0 or stream >= self._next or not stream & 1:
            raise Broken(frames.PROTOCOL_ERROR, f"a frame of stream {stream}, which does not exist")


def _unpadded(data: bytes, start: int, end: int) -> tuple[int, int]:
    if start >= end or data[start] >= end - start:
        raise Broken(frames.PROTOCOL_ERROR, "more padding than payload")
    return start + 1, end - data[start]
