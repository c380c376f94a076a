"""Raw bytes on a server's sockets: every answer is HTTP and blames the client, and the server is well afterwards.

"Well" is counted: a plain request is answered in time now and then while it rains, and at the end the event loop has
no more tasks and the process no more open files than before. The server runs in this process, so that both can be seen.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable

import orjson
import yaml

from tests.support.raw_fuzzing import RawFuzzer, Shot, request

TOGETHER = 24  # connections at once
SILENCE = 0.15  # seconds without a byte after which a connection is taken to wait for more from us
PATIENCE = 10.0  # seconds a plain request may take on a machine that is raining
GROWTH = 256 << 20  # bytes by which the process may grow


class Harm(AssertionError):
    """The server did what it must not. Says the seed and what was sent."""


def resident() -> int:
    """Bytes of memory this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def answers(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """The complete answers in ``data``: status, media type, body. Raises ValueError for what is no HTTP."""
    found = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        if not line.startswith(b"HTTP/1.1 "):
            raise ValueError(f"no HTTP: {data[:200]!r}")
        if not end:
            break
        status = int(line.split(b" ")[1])
        if status == 101:
            found.append((status, b"", b""))
            break
        named = {
            name.lower(): value.strip() for name, _, value in (field.partition(b":") for field in fields)
        }
        if status == 100:
            data = rest
            continue
        if named.get(b"transfer-encoding") == b"chunked":
            body, _, data = rest.partition(b"0\r\n\r\n")
        else:
            size = int(named.get(b"content-length", b"0"))
            body, data = rest[:size], rest[size:]
        found.append((status, named.get(b"content-type", b""), body))
    return found


def fault(data: bytes) -> str:
    """What is wrong with what came back; "" when nothing is."""
    try:
        for status, media, body in answers(data):
            if status < 400 or b"protobuf" in media or (status, body) == (404, b"404 page not found\n"):
                continue
            told = yaml.safe_load(body) if b"yaml" in media else orjson.loads(body)
            if (told.get("kind"), told.get("code")) != ("Status", status) or not told.get("message"):
                return f"an error that is no Status: {body[:300]!r}"
            if status >= 500 and "Too large resource version" not in told["message"]:
                return f"an answer that blames the server: {body[:300]!r}"
    except (ValueError, yaml.YAMLError, AttributeError) as error:
        return f"an answer that cannot be read ({error}): {data[:300]!r}"
    return ""


class Rain:
    """Shots at one port. ``context`` shows an administrator's certificate."""

    def __init__(self, port: int, context: ssl.SSLContext, seed: int) -> None:
        self.port, self.context, self.seed = port, context, seed
        self.fuzzer = RawFuzzer(seed)
        self.seen: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.harms: dict[str, str] = {}  # the first of each kind and fault
        self.slowest = 0.0

    async def send(self, shot: Shot, patience: float = 0.6) -> bytes:
        """What comes back until the server closes or falls silent."""
        context = None if shot.plain else self.context
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, limit=1 << 24)
        except OSError:
            return b""
        got = bytearray()
        try:
            for piece in shot.pieces:
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), 5)
            if shot.abrupt:
                return b""
            while part := await asyncio.wait_for(reader.read(1 << 20), SILENCE if got else patience):
                got += part
                if shot.kind not in ("pipeline", "upgrade") and _whole(got):
                    break
        except (OSError, TimeoutError):
            pass  # closed under our hands, or silence: both are answers
        finally:
            writer.transport.abort()
        return bytes(got) if not shot.plain else b""

    async def _work(self, end: float) -> None:
        while time.monotonic() < end:
            shot = self.fuzzer.shot()
            self.kinds[shot.kind] += 1
            got = await self.send(shot)
            if wrong := fault(got):
                self.harms.setdefault(f"{shot.kind} {wrong[:120]}", f"{wrong} to {shot}")
            else:
                self.seen.update(status for status, _, _ in answers(got))

    async def _check(self, end: float) -> None:
        """A plain client's request, again and again."""
        shot = Shot("plain", (request("GET", "/api/v1/namespaces/default"),))
        while time.monotonic() < end:
            begun = time.monotonic()
            got = await self.send(shot, PATIENCE)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if not got.startswith(b"HTTP/1.1 200 "):
                self.harms.setdefault("plain", f"a plain request was answered {got[:300]!r}")
            await asyncio.sleep(0.25)

    async def fall(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(self._check(end), *(self._work(end) for _ in range(TOGETHER)))


def _whole(got: bytearray) -> bool:
    """Whether a whole answer with a length has come."""
    head, end, _ = bytes(got[:4096]).partition(b"\r\n\r\n")
    at = head.lower().find(b"content-length:")
    if not end or at < 0:
        return got.endswith(b"0\r\n\r\n")
    size = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return len(got) >= len(head) + 4 + size


async def _until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    for _ in range(round(seconds / 0.05)):
        if condition():
            return True
        await asyncio.sleep(0.05)
    return condition()


async def rain(port: int, context: ssl.SSLContext, seed: int, seconds: float) -> Rain:
    """Let it rain for so many seconds; the server listens in this process. Raises Harm."""
    await Rain(port, context, seed + 1).fall(min(1.0, seconds))  # what is made once is made now
    await _until(lambda: False, 0.3)
    tasks, files, memory = len(asyncio.all_tasks()), open_files(), resident()
    fallen = Rain(port, context, seed)
    await fallen.fall(seconds)
    harms = list(fallen.harms.values())
    if not await _until(lambda: len(asyncio.all_tasks()) <= tasks + 2):
        left = sorted(str(task.get_coro()) for task in asyncio.all_tasks())
        harms.append(f"{len(left)} tasks where {tasks} were: {left}")
    if not await _until(lambda: open_files() <= files + 2):
        harms.append(f"{open_files()} open files where {files} were")
    if resident() > memory + GROWTH:
        harms.append(f"{(resident() - memory) >> 20} MiB more memory")
    if harms:
        raise Harm("\n".join([f"seed {seed}, {fallen.kinds.total()} shots:", *harms]))
    print(
        f"raw bytes, seed {seed}: {fallen.kinds.total()} shots, {dict(fallen.seen)}, a plain request took at most"
        f" {fallen.slowest:.2f} s, {(resident() - memory) >> 20} MiB grown"
    )
    return fallen
