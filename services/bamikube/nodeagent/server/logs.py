"""Container logs in the format CRI writes, read the way kubectl asks for them.

A line is ``2026-01-02T03:04:05.123456789Z stdout F text``; ``P`` instead of ``F`` marks a part of a line that goes
on. Rotation renames the file and starts a new one, which a follower notices by the inode. The file is polled a few
times a second while followed: it is on local disk, and inotify would save nothing that can be measured.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bamikube.kit.clock import Clock, parse_rfc3339

CHUNK = 64 * 1024  # bytes read at once
POLL = 0.1  # seconds between two looks at a followed file
BLOCK = 16 * 1024  # bytes read at once when looking for the tail
SLACK = 5.0  # seconds by which lines may be out of order
_STREAMS = (b"stdout", b"stderr")
_STAMP = re.compile(rb"([^.Z+]+)(?:\.([0-9]{1,9}))?(Z|[+-][0-9:]{5})$")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions. ``since`` is seconds since the epoch, ``tail`` None for all lines."""

    follow: bool = False
    tail: int | None = None
    since: float | None = None
    timestamps: bool = False
    limit: int | None = None
    stream: str = "All"


def parse_line(line: bytes) -> tuple[bytes, bytes, bool, bytes] | None:
    """Time, stream, whether the line is complete, text with its newline; None for what is no CRI line."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in _STREAMS:
        return None
    full = parts[2].split(b":")[0] == b"F"
    text = parts[3] if len(parts) == 4 else b""
    return parts[0], parts[1], full, text + b"\n" if full else text


def tail_offset(path: Path, lines: int, end: int | None = None) -> int:
    """Where the last ``lines`` complete log entries before ``end`` (default: the file's end) begin, as a byte offset."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) if end is None else end
        if lines <= 0:
            return end
        starts: deque[int] = deque()
        position, rest = end, b""
        while position > 0 and len(starts) <= lines:
            step = min(BLOCK, position)
            position -= step
            file.seek(position)
            block = file.read(step) + rest
            first = block.find(b"\n")
            if position > 0 and first < 0:
                rest = block
                continue
            begin = 0 if position == 0 else first + 1
            rest = block[:begin]
            offset = position + begin
            found = []
            for line in block[begin:].splitlines(keepends=True):
                parsed = parse_line(line)
                if parsed is not None and parsed[2]:
                    found.append(offset + len(line))
                offset += len(line)
            starts.extendleft(reversed(found))
        ends = list(starts)
        if ends and ends[-1] < end:  # an unfinished line at the end counts as one
            lines -= 1
        return ends[-lines - 1] if len(ends) > lines else 0


def since_offset(path: Path, since: float, end: int) -> int:
    """Where to begin to look for lines of ``since`` and later: found by halving, for lines stand in the order of time.

    Two streams are written side by side, so neighbours may be out of order by a hair: the offset is a little early.
    """
    low, high = 0, end
    with path.open("rb") as file:
        while high - low > BLOCK:
            middle = (low + high) // 2
            file.seek(middle)
            file.readline()  # the rest of a line
            begin = file.tell()
            parsed = parse_line(file.readline())
            try:
                early = parsed is not None and begin < high and _time(parsed[0]) < since - SLACK
            except ValueError:
                early = False
            if early:
                low = begin
            else:
                high = middle
    return low


async def read(
    path: Path, options: LogOptions, clock: Clock, running: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The log's bytes. Following ends when ``running`` answers False and everything has been read.

    Who does not follow gets the log as it is now: lines that come while it is read would be more than the tail asked
    for, and a container that writes faster than its reader takes would never let the read end.

    Raises FileNotFoundError when there is no log.
    """
    shown = _Shown(options)
    async with contextlib.aclosing(_lines(path, options, clock, running)) as chunks:
        async for lines in chunks:
            if out := shown.take(lines):
                yield out
            if shown.full:
                return


async def _lines(
    path: Path, options: LogOptions, clock: Clock, running: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[list[bytes]]:
    """Lines of the file as they are there, from where the options let them begin; the last one may be unfinished."""
    file = path.open("rb")
    try:
        end = os.fstat(file.fileno()).st_size
        start = 0
        if options.tail is not None:
            start = tail_offset(path, options.tail, end)
        if options.since is not None:
            start = max(start, since_offset(path, options.since, end))
        file.seek(start)
        pending = b""
        while True:
            data = file.read(CHUNK if options.follow else min(CHUNK, max(0, end - file.tell())))
            if data:
                *lines, pending = (pending + data).split(b"\n")
                yield lines
                continue
            if not options.follow:
                break
            if _rotated(path, file.fileno()):
                await clock.sleep(POLL)  # the last words may still be on their way into the old file
                *lines, _ = (pending + file.read()).split(b"\n")
                yield lines
                file.close()
                file, pending = path.open("rb"), b""
            elif await running():
                await clock.sleep(POLL)
            else:
                *lines, pending = (pending + file.read()).split(b"\n")
                yield lines
                break
        if pending:
            yield [pending]
    finally:
        file.close()


class _Shown:
    """What of the lines is shown, and how much of it still may be."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit
        self._begun = True  # the next text begins a line
        self._since = options.since  # None as soon as what comes is late enough, whatever its order
        self._stream = options.stream.lower().encode()

    @property
    def full(self) -> bool:
        return self._left == 0

    def take(self, lines: list[bytes]) -> bytes:
        options = self._options
        out = bytearray()
        plain = self._since is None and options.stream == "All" and not options.timestamps
        for line in lines:
            if plain:  # by far the most lines: whole ones that are all shown
                parts = line.split(b" ", 3)
                if len(parts) == 4 and parts[2] == b"F" and parts[1] in _STREAMS:
                    out += parts[3] + b"\n"
                    continue
            parsed = parse_line(line)
            if parsed is None:
                continue
            stamp, stream, full, text = parsed
            wanted = options.stream == "All" or stream == self._stream
            if wanted and (self._since is None or self._late(stamp)):
                if options.timestamps and self._begun:
                    out += _nine(stamp) + b" "
                out += text
            self._begun = full
        if self._left is not None:
            del out[self._left :]
            self._left -= len(out)
        return bytes(out)

    def _late(self, stamp: bytes) -> bool:
        """Whether a line's time is not before ``since``."""
        assert self._since is not None
        try:
            ahead = _time(stamp) - self._since
        except ValueError:  # half a line that a crash has left
            return False
        if ahead > SLACK:
            self._since = None
        return ahead >= 0


def _nine(stamp: bytes) -> bytes:
    """The stamp with nine decimals: the runtime drops zeros at the end."""
    if len(stamp) == 30 and stamp.endswith(b"Z"):  # has them all, as most have
        return stamp
    found = _STAMP.match(stamp)
    return stamp if found is None else found[1] + b"." + (found[2] or b"").ljust(9, b"0") + found[3]


def _rotated(path: Path, descriptor: int) -> bool:
    try:
        now, held = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return now.st_ino != held.st_ino


def _time(stamp: bytes) -> float:
    text = stamp.decode("ascii", "replace")
    head, dot, tail = text.partition(".")
    if dot:  # Python knows six decimals, CRI writes nine
        digits = tail.rstrip("Z")
        zone = "Z"
        for mark in "+-":
            if mark in digits:
                digits, sign, rest = digits.partition(mark)
                zone = sign + rest
        text = f"{head}.{digits[:6].ljust(6, '0')}{zone}"
    return parse_rfc3339(text)
