"""Which rotated logs go, which are compressed, and that a failed rotation loses nothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from bamikube.kit.world import World
from bamikube.nodeagent.node.log_rotation import Limits, LogRotator, Tidying, compress, tidying
from bamikube.nodeagent.runtime.port import Container, RuntimeFailure


def test_the_oldest_go_and_all_that_stay_are_compressed() -> None:
    assert tidying([], 5) == Tidying((), ())
    names = [
        "0.log.20260101-000001.gz",
        "0.log.20260101-000002.gz",
        "0.log.20260101-000003.gz",
        "0.log.20260101-000004",
    ]
    assert tidying(names, 5) == Tidying((names[0],), (names[3],))
    assert tidying(names, 2) == Tidying(tuple(names), ())


def test_what_a_crash_left_goes_first() -> None:
    half, both = "0.log.20260101-000003.tmp", "0.log.20260101-000002"
    assert tidying([half, both, f"{both}.gz"], 5) == Tidying((both, half), ())


def test_a_compressed_log_holds_what_the_log_held(tmp_path: Path) -> None:
    path = tmp_path / "0.log.20260101-000001"
    path.write_bytes(b"words\n" * 1000)
    compress(path)
    (left,) = tmp_path.iterdir()
    assert left.name == f"{path.name}.gz" and gzip.decompress(left.read_bytes()) == b"words\n" * 1000


class Reopening:
    """A runtime that opens logs anew, or fails to."""

    def __init__(self, path: Path) -> None:
        self.path, self.fails, self.calls = path, False, 0

    async def reopen_log(self, container_id: str) -> None:
        self.calls += 1
        if self.fails:
            raise RuntimeFailure("UNKNOWN", "the container is not running")
        self.path.write_bytes(b"")


async def test_a_rotation_that_fails_is_taken_back_and_a_missing_log_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"x" * 100)
    runtime: Any = Reopening(path)
    container = Container("c", "s", "app", 0, "running", 1.0, log_path=str(path))
    rotator = LogRotator(World(), runtime, Limits(100, 3), lambda: [container])
    runtime.fails = True
    assert await rotator.look() == []
    assert [p.name for p in tmp_path.iterdir()] == ["0.log"] and path.stat().st_size == 100
    runtime.fails = False
    assert await rotator.look() == ["c"]
    assert len(list(tmp_path.iterdir())) == 2
    assert await rotator.look() == []
    path.unlink()
    assert await rotator.look() == [] and path.exists()
