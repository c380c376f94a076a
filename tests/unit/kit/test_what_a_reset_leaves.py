"""A server that answers, leaves input unread and closes: what it has said is heard though the connection is reset."""

from __future__ import annotations

import asyncio
import socket
import struct

from bamikube.kit.tunnel import dial_socket

ANSWER = b"status: 7\n" * 1000


async def test_an_answer_before_a_reset_is_read_to_its_end() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    loop = asyncio.get_running_loop()
    connection = await dial_socket(*listening.getsockname())
    served, _ = await loop.sock_accept(listening)
    served.send(ANSWER)
    served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.close()  # a reset, as unread input makes one
    refused = False
    for _ in range(100):
        try:
            await connection.write(b"x" * 100_000)
        except OSError:
            refused = True
            break
    assert refused
    heard = b""
    while len(heard) < len(ANSWER) and (more := await connection.read()):
        heard += more
    assert heard == ANSWER
    connection.close()
    listening.close()


async def test_closing_ends_what_is_under_way() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    connection = await dial_socket(*listening.getsockname())
    reading = asyncio.ensure_future(connection.read())
    await asyncio.sleep(0)
    connection.close()
    assert await asyncio.wait_for(reading, 5) == b""
    assert connection._socket.fileno() == -1
    listening.close()
