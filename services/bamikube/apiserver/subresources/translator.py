"""exec and attach by ``v5.channel.k8s.io``, translated to the SPDY streams that node agents and runtimes speak.

A message of the websocket begins with a byte that names its channel; every channel is a SPDY stream of its own::

    channel   0 stdin    1 stdout    2 stderr    3 status    4 terminal size    255 "this channel is closed"
    stream    stdin      stdout      stderr      error       resize             fin

``echo hi | kubectl exec -i web -- cat`` goes like this::

    client                       here                                 node
    0 "hi\\n"           ->        DATA stdin "hi\\n"           ->
    255 0              ->        DATA stdin "" fin           ->
                       <-        1 "hi\\n"                    <-       DATA stdout "hi\\n"
                                 (stdout has ended)          <-       DATA stdout "" fin
                                 (kept)                      <-       DATA error {"status": "Success"}, fin
                       <-        3 {"status": "Success"}, close

The status is told last, in one message, after everything the command has printed. A command that the node loses ends
with a failure, never with silence.

Nothing is read or written here: :class:`Translator` is given what each side has sent and answers what to tell whom.

Source: KEP-4006 (from SPDY to websockets), whose StreamTranslator this is.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from bamikube.api import errors
from bamikube.kit import spdy, websocket
from bamikube.kit.tunnel import Said

PROTOCOL = "v5.channel.k8s.io"
NODE_PROTOCOL = "v4.channel.k8s.io"  # the SPDY protocol whose error stream carries a Status

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSED = 0, 1, 2, 3, 4, 255
_STREAM_TYPES = {STATUS: "error", STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", RESIZE: "resize"}

CHUNK = 32 * 1024  # bytes of a DATA frame we make; the receiver keeps whole frames
MAX_STATUS = 1024 * 1024  # bytes
_SUCCESS = orjson.dumps({"metadata": {}, "status": "Success"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams a request asks for. A terminal has no stderr of its own.

    ``attached``: to a container's terminal. The runtime takes the end of input there for the wish to detach, and
    closes the output too; who pipes something into ``kubectl run -it`` wants to see what comes of it. So that end is not
    passed on: the attachment ends with the process, or with the client.
    """

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False
    attached: bool = False

    @property
    def channels(self) -> list[int]:
        """The channels there are, in the order in which their streams are opened."""
        found = [STATUS]
        for channel, wanted in (
            (STDIN, self.stdin),
            (STDOUT, self.stdout),
            (STDERR, self.stderr and not self.tty),
            (RESIZE, self.tty),
        ):
            if wanted:
                found.append(channel)
        return found


class Translator:
    """One exec or attach. ``farewell`` is the message for a node that ends before the command has."""

    def __init__(self, wanted: Wanted, farewell: str) -> None:
        self.lost = False  # whether the node has ended before the command
        self._farewell = farewell
        self._keeps_input = wanted.attached
        self._parser = websocket.Parser(masks=True)
        self._session = spdy.Session()
        self._streams = {channel: 2 * at + 1 for at, channel in enumerate(wanted.channels)}
        self._channels = {stream: channel for channel, stream in self._streams.items()}
        self._unanswered = set(self._channels)
        self._speaking = {c for c in wanted.channels if c in (STDOUT, STDERR, STATUS)}
        self._writable = {c for c in wanted.channels if c in (STDIN, RESIZE)}
        self._channel = -1  # of the client's message being read; -1 between messages
        self._status = b""
        self._ended = False

    @property
    def opened(self) -> bool:
        """Whether every stream has been answered. Before that the other side drops data, so there must be none."""
        return self._ended or not self._unanswered

    def opening(self) -> Said:
        """Open the streams, and tell the client on its first channel that it is connected."""
        frames = [
            self._session.open(stream, {"streamtype": _STREAM_TYPES[channel]})
            for channel, stream in self._streams.items()
        ]
        first = min(self._speaking)
        return Said([websocket.frame(websocket.BINARY, bytes((first,)))], [b"".join(frames)])

    # -- the client --------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> Said:
        """``b""`` means that the client is gone."""
        if self._ended or not data:
            return Said(end=True)
        to_client: list[bytes] = []
        to_node: list[bytes] = []
        try:
            for piece in self._parser.feed(data):
                if piece.opcode == websocket.PING:
                    to_client.append(websocket.frame(websocket.PONG, piece.data))
                elif piece.opcode == websocket.CLOSE:
                    self._ended = True
                    to_client.append(websocket.frame(websocket.CLOSE, piece.data[:2]))
                    break
                elif piece.opcode != websocket.PONG:
                    self._message(piece, to_node)
        except websocket.ProtocolError as error:
            self._ended = True
            to_client.append(websocket.close_frame(websocket.PROTOCOL_ERROR, str(error)))
        return Said(to_client, [b"".join(to_node)] if to_node else [], self._ended)

    def _message(self, piece: websocket.Piece, to_node: list[bytes]) -> None:
        """A part of a message. What is meant for a channel that is not there, or not the client's, is passed over."""
        content = piece.data
        if self._channel < 0 and content:
            self._channel, content = content[0], content[1:]
        if content:
            if self._channel == CLOSED:
                self._close(content[0], to_node)
            elif self._channel in self._writable:
                stream = self._streams[self._channel]
                for at in range(0, len(content), CHUNK):
                    to_node.append(spdy.data(stream, content[at : at + CHUNK]))
        if piece.last:
            self._channel = -1

    def _close(self, channel: int, to_node: list[bytes]) -> None:
        if channel in self._writable:
            self._writable.remove(channel)
            if channel == STDIN and self._keeps_input:
                return
            to_node.append(spdy.data(self._streams[channel], fin=True))

    # -- the node ----------------------------------------------------------------------------------------------

    def from_node(self, data: bytes) -> Said:
        """``b""`` means that the node's side has ended."""
        if self._ended:
            return Said(end=True)
        if not data:
            return self._finish(self._farewell)
        to_client: list[bytes] = []
        to_node: list[bytes] = []
        try:
            for event in self._session.feed(data):
                if isinstance(event, spdy.Data):
                    self._heard(event, to_client)
                elif isinstance(event, spdy.Replied):
                    self._unanswered.discard(event.stream)
                    if event.fin:
                        self._ends(event.stream)
                elif isinstance(event, spdy.Reset):
                    self._unanswered.discard(event.stream)
                    self._ends(event.stream)
                elif isinstance(event, spdy.Ping) and not event.id % 2:
                    to_node.append(spdy.ping(event.id))
        except spdy.ProtocolError as error:
            said = self._finish(f"{self._farewell}: {error}")
            return Said([*to_client, *said.left], end=True)
        if not self._speaking:
            to_client += self._finish("").left
        return Said(to_client, to_node, self._ended)

    def _heard(self, event: spdy.Data, to_client: list[bytes]) -> None:
        channel = self._channels.get(event.stream)
        if channel in (STDOUT, STDERR) and event.data:
            head = websocket.head(websocket.BINARY, len(event.data) + 1)
            to_client.append(b"%b%c%b" % (head, channel, event.data))
        elif channel == STATUS and len(self._status) < MAX_STATUS:
            self._status += event.data
        if event.fin:
            self._ends(event.stream)

    def _ends(self, stream: int) -> None:
        self._speaking.discard(self._channels.get(stream, -1))

    def _finish(self, failure: str) -> Said:
        """The status and the end. ``failure`` is told when the node has not said all it had to say about it."""
        self._ended = True
        status = self._status or _SUCCESS
        # A runtime whose command leaves input unread resets the connection after its last words, and the frame that ends the
        # stream may be lost with it; a status that is whole says all.
        if STATUS in self._speaking and not _whole(self._status):
            self.lost = True
            status = orjson.dumps(errors.internal(failure).status())
        message = websocket.frame(websocket.BINARY, bytes((STATUS,)) + status)
        return Said([message, websocket.close_frame()], end=True)


def _whole(status: bytes) -> bool:
    try:
        return isinstance(orjson.loads(status), dict)
    except orjson.JSONDecodeError:
        return False
