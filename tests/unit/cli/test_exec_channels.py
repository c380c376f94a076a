"""The websocket of exec: frames, channels, the final status."""

from __future__ import annotations

import socket
import struct

import pytest

from bamikube.cli.errors import CliError
from bamikube.cli.verbs.exec import exit_code
from bamikube.cli.websocket import Channels


def _unmasked(data: bytes) -> bytes:
    size = data[1] & 0x7F
    at = 2
    if size == 126:
        size, at = struct.unpack("!H", data[2:4])[0], 4
    elif size == 127:
        size, at = struct.unpack("!Q", data[2:10])[0], 10
    mask, body = data[at : at + 4], data[at + 4 : at + 4 + size]
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 125, 126, 70000])
def test_frames_sent_are_masked_and_whole(size: int) -> None:
    left, right = socket.socketpair()
    with left, right:
        channels = Channels(left, "v5.channel.k8s.io", b"")
        payload = bytes(index % 251 for index in range(size))
        channels.send(0, payload)
        channels.end_of_input()
        left.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: right.recv(65536), b""))
    assert data[0] == 0x82 and data[1] & 0x80
    assert _unmasked(data) == b"\0" + payload
    assert _unmasked(data[-8:]) == b"\xff\0"


def test_messages_are_put_together_and_pings_answered() -> None:
    left, right = socket.socketpair()
    with left, right:
        channels = Channels(left, "v4.channel.k8s.io", b"\x02\x03\x01he")
        right.sendall(
            b"\x89\x01p" + b"\x80\x03llo" + b"\x82\x00" + b"\x82\x7e\x01\x00\x02" + b"e" * 255 + b"\x88\x00"
        )
        assert channels.receive() == (1, b"hello")
        assert channels.receive() == (2, b"e" * 255)
        assert channels.receive() is None
        assert right.recv(100)[0] == 0x8A


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code({"status": "Success"}) == 0
    failed = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}
    assert exit_code(failed) == 3
    assert capsys.readouterr().err == "command terminated with exit code 3\n"
    with pytest.raises(CliError, match="no such file"):
        exit_code({"status": "Failure", "message": "no such file"})
