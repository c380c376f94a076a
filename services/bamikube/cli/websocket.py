"""The websocket of ``exec``: RFC 6455 with Kubernetes' channels (``v5.channel.k8s.io``, ``v4.channel.k8s.io``).

Every binary message starts with a byte that names its channel: 0 standard input, 1 standard output, 2 standard error,
3 the final status (a ``Status`` object in JSON), 4 the terminal's size. Version 5 adds channel 255: "this channel is
closed", which is how standard input ends; with version 4 its end cannot be told.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import struct
import threading

from bamikube.cli.connection import Connection, _status
from bamikube.cli.errors import CliError, ServerError

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Channels:
    """An open websocket. Sending is safe from several threads."""

    def __init__(self, connected: socket.socket, protocol: str, early: bytes) -> None:
        self.socket = connected
        self.protocol = protocol
        self._buffer = early
        self._sending = threading.Lock()

    def send(self, channel: int, data: bytes) -> None:
        self._frame(2, bytes((channel,)) + data)

    def end_of_input(self) -> None:
        if self.protocol == "v5.channel.k8s.io":
            self._frame(2, bytes((CLOSE, STDIN)))

    def receive(self) -> tuple[int, bytes] | None:
        """The next message: channel and data; None when the other side has closed."""
        message = b""
        while True:
            head = self._exactly(2)
            if head is None:
                return None
            final, opcode, length = head[0] & 0x80, head[0] & 0x0F, head[1] & 0x7F
            if length == 126:
                length = struct.unpack("!H", self._exactly(2) or b"\0\0")[0]
            elif length == 127:
                length = struct.unpack("!Q", self._exactly(8) or b"\0" * 8)[0]
            content = self._exactly(length)
            if content is None or opcode == 8:
                return None
            if opcode == 9:
                self._frame(10, content)
            elif opcode in (0, 1, 2):
                message += content
                if final:
                    if message:
                        return message[0], message[1:]
                    message = b""

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other side may be faster
            self._frame(8, struct.pack("!H", 1000))
        self.socket.close()

    def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _frame(self, opcode: int, content: bytes) -> None:
        mask = os.urandom(4)
        size = len(content)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        key = int.from_bytes(mask * (size // 4 + 1), "big") >> (32 - size % 4 * 8) if size else 0
        masked = (int.from_bytes(content, "big") ^ key).to_bytes(size, "big") if size else b""
        with self._sending:
            self.socket.sendall(head + mask + masked)


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
    expected = base64.b64encode(hashlib.sha1(nonce + _MAGIC).digest()).decode()
    if answer.get("sec-websocket-accept") != expected:
        raise CliError("error: the server's answer is no websocket")
    return Channels(opened, answer.get("sec-websocket-protocol", "v4.channel.k8s.io"), rest)
