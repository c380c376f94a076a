"""CRI logs: lines, parts, tails, limits, rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bamikube.kit.clock import SystemClock, parse_rfc3339, rfc3339
from bamikube.nodeagent.server.logs import LogOptions, parse_line, read, since_offset, tail_offset


def line(number: int, flag: str = "F", stream: str = "stdout") -> str:
    return f"2026-01-01T00:00:{number:02d}.123456789Z {stream} {flag} line {number}\n"


async def ended() -> bool:
    return False


async def text(path: Path, options: LogOptions) -> str:
    return b"".join([chunk async for chunk in read(path, options, SystemClock(), ended)]).decode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text("".join(line(n) for n in range(10)))
    return path


async def test_tail_since_and_limit(log: Path) -> None:
    assert await text(log, LogOptions(tail=2)) == "line 8\nline 9\n"
    assert await text(log, LogOptions(tail=0)) == ""
    assert (await text(log, LogOptions(tail=99))).count("\n") == 10
    assert await text(log, LogOptions(limit=9)) == "line 0\nli"
    since = 1767225608.0  # 2026-01-01T00:00:08Z
    assert await text(log, LogOptions(since=since)) == "line 8\nline 9\n"


async def test_tail_over_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    path.write_text("".join(f"2026-01-01T00:00:00.1Z stdout F {n} {'x' * 300}\n" for n in range(500)))
    assert (await text(path, LogOptions(tail=200))).split(" ", 1)[0] == "300"


async def test_lines_that_come_while_the_log_is_read_are_not_part_of_it(tmp_path: Path) -> None:
    """Seen as three lines for ``kubectl logs --tail=2`` of a talkative container."""
    path = tmp_path / "0.log"
    path.write_text("".join(line(n % 60) for n in range(4000)))
    reading = read(path, LogOptions(tail=3500), SystemClock(), ended)
    got = await anext(reading)
    with path.open("a") as more:
        more.write(line(1) * 10)
    got += b"".join([chunk async for chunk in reading])
    assert got.count(b"\n") == 3500


async def test_parts_are_joined_and_stamped_once(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(1, "P") + line(2))
    assert await text(path, LogOptions(timestamps=True)) == "2026-01-01T00:00:01.123456789Z line 1line 2\n"
    path.write_text("2026-01-01T00:00:01.12Z stdout F a\n2026-01-01T00:00:01+02:00 stderr F b")
    expected = "2026-01-01T00:00:01.120000000Z a\n2026-01-01T00:00:01.000000000+02:00 b\n"
    assert await text(path, LogOptions(timestamps=True)) == expected
    assert await text(path, LogOptions(stream="Stderr")) == "b\n"
    assert parse_line(b"garbage\n") is None


async def test_since_is_found_by_halving(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    stamps = (rfc3339(1.7e9 + n) for n in range(20_000))
    path.write_text("".join(f"{stamp} stdout F {n} {'x' * (n % 90)}\n" for n, stamp in enumerate(stamps)))
    size = path.stat().st_size
    assert size * 0.99 > since_offset(path, 1.7e9 + 19_500, size) > size * 0.94
    got = await text(path, LogOptions(since=1.7e9 + 19_500))
    assert got.count("\n") == 500 and got.startswith("19500 ")
    assert (await text(path, LogOptions(since=1.7e9 + 1))).count("\n") == 19_999
    assert (await text(path, LogOptions(since=1.7e9 + 19_000, tail=3, limit=8))) == "19997 xx"
    assert await text(path, LogOptions(since=1.8e9)) == ""


async def test_lines_out_of_order_and_broken_ones(tmp_path: Path) -> None:
    path = tmp_path / "odd.log"
    broken = ["half a line", "2026-01 stdout F no time", "2026-01-01T00:00:30Z stdwhat F no stream"]
    path.write_text(line(20) + line(21) + line(19) + "\n".join(broken) + "\n" + line(40) + line(18))
    since = parse_rfc3339("2026-01-01T00:00:20Z")
    # One that is early is left out, unless much later ones have come: a clock that was set back hides nothing.
    assert await text(path, LogOptions(since=since)) == "line 20\nline 21\nline 40\nline 18\n"
    assert since_offset(path, since, path.stat().st_size) == 0
    assert "no stream" not in await text(path, LogOptions())


async def test_following_goes_on_after_a_rotation(log: Path) -> None:
    running = True

    async def alive() -> bool:
        return running

    seen: list[bytes] = []
    rotated = asyncio.Event()

    async def follow() -> None:
        async for chunk in read(log, LogOptions(follow=True), SystemClock(), alive):
            seen.append(chunk)
            rotated.set()

    task = asyncio.ensure_future(follow())
    await rotated.wait()
    old = log.open("a")
    log.rename(log.with_suffix(".old"))
    log.write_text(line(42))
    with old:
        old.write(line(41))  # the old writer's last words
    async with asyncio.timeout(5):
        while b"line 41\nline 42\n" not in b"".join(seen):
            rotated.clear()
            await rotated.wait()
    running = False
    async with asyncio.timeout(5):
        await task


def test_an_unfinished_last_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(1) + line(2) + line(3, "P"))
    assert path.read_bytes()[tail_offset(path, 1) :].decode() == line(3, "P")
