"""The websocket of ``exec``, with Kubernetes' channels (``v5.channel.k8s.io``, ``v4.channel.k8s.io``).

Every binary message starts with a byte that names its channel: 0 standard input, 1 standard output, 2 standard error,
3 the final status (a ``Status`` object in JSON), 4 the terminal's size. Version 5 adds channel 255: "this channel is
closed", which is how standard input ends; with version 4 its end cannot be told.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import threading
from collections import deque

from bamikube.cli.connection import Connection, _status
from bamikube.cli.errors import CliError, ServerError
from bamikube.kit import websocket
from bamikube.kit.websocket import Piece

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class Channels:
    """An open websocket. Sending is safe from several threads."""

    def __init__(self, connected: socket.socket, protocol: str, early: bytes) -> None:
        self.socket = connected
        self.protocol = protocol
        self._parser = websocket.Parser(masks=False)
        self._pieces: deque[Piece] = deque(self._parser.feed(early))
        self._sending = threading.Lock()

    def send(self, channel: int, data: bytes) -> None:
        self._frame(websocket.BINARY, bytes((channel,)) + data)

    def end_of_input(self) -> None:
        if self.protocol == "v5.channel.k8s.io":
            self._frame(websocket.BINARY, bytes((CLOSE, STDIN)))

    def receive(self) -> tuple[int, bytes] | None:
        """The next message: channel and data; None when the other side has closed."""
        message = b""
        while (piece := self._next()) is not None and piece.opcode != websocket.CLOSE:
            if piece.opcode == websocket.PING:
                self._frame(websocket.PONG, piece.data)
            elif piece.opcode in (websocket.BINARY, websocket.TEXT):
                message += piece.data
                if piece.last and message:
                    return message[0], message[1:]
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other side may be faster
            self._frame(websocket.CLOSE, websocket.NORMAL.to_bytes(2, "big"))
        self.socket.close()

    def _next(self) -> Piece | None:
        while not self._pieces:
            data = self.socket.recv(65536)
            if not data:
                return None
            try:
                self._pieces.extend(self._parser.feed(data))
            except websocket.ProtocolError as error:
                raise CliError(f"error: the server's answer cannot be understood: {error}") from None
        return self._pieces.popleft()

    def _frame(self, opcode: int, content: bytes) -> None:
        with self._sending:
            self.socket.sendall(websocket.frame(opcode, content, mask=os.urandom(4)))


def connect(connection: Connection, path: str) -> Channels:
    """Open the websocket at ``path`` (with its query). Raises :class:`ServerError` when the server says no."""
    opened = connection.socket()
    nonce = base64.b64encode(os.urandom(16))
    headers = {
        **connection.headers(),
        "Accept": "*/*",  # the runtime's streaming server promises no type and so refuses every named one
        "Host": f"{connection.host}:{connection.port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": nonce.decode(),
        "Sec-WebSocket-Protocol": "v5.channel.k8s.io, v4.channel.k8s.io",
    }
    lines = [
        f"GET {connection.prefix}{path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    opened.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    data = b""
    while b"\r\n\r\n" not in data:
        part = opened.recv(65536)
        if not part:
            raise CliError("error: the server closed the connection instead of opening a tunnel")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    answer = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in others)
    }
    code = int(first.split(" ")[1])
    if code != 101:
        while len(rest) < int(answer.get("content-length", "0")):
            part = opened.recv(65536)
            if not part:
                break
            rest += part
        raise ServerError(code, _status(rest, code))
    if answer.get("sec-websocket-accept") != websocket.accept_of(nonce.decode()):
        raise CliError("error: the server's answer is no websocket")
    return Channels(opened, answer.get("sec-websocket-protocol", "v4.channel.k8s.io"), rest)
