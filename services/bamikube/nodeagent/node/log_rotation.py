"""Container logs that grow too large are rotated, as the kubelet does it.

A log ``0.log`` above the limit is renamed ``0.log.20260102-030405`` and the runtime is asked to open a new one. Files
rotated before are compressed, but for the newest, which a reader may still be at; the oldest are removed, so that with
the log itself ``max_files`` are left. What a crash may have left half done is cleared first::

    0.log                      written now
    0.log.20260102-030405      the newest rotated one, plain
    0.log.20260102-020000.gz   older ones
    0.log.20260102-010000.tmp  half a compressed file: removed

Source: "Logging architecture", containerLogMaxSize and containerLogMaxFiles.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bamikube.kit.world import World
from bamikube.nodeagent.host.threads import beside
from bamikube.nodeagent.runtime.port import Container, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

_COMPRESSED, _HALF = ".gz", ".tmp"


@dataclass(frozen=True, slots=True)
class Limits:
    """A log of ``size`` bytes is rotated; a negative size turns rotation off. At most ``files`` are kept, the log itself
    among them. ``period``: seconds between two looks; ``workers``: how many logs are rotated at once."""

    size: int
    files: int
    period: float = 10.0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Tidying:
    """What is to be done with the rotated files of one log before it is rotated again."""

    remove: tuple[str, ...]
    compress: tuple[str, ...]


def tidying(names: Iterable[str], files: int) -> Tidying:
    """Which rotated files go and which are compressed, so that the next one finds its place. Pure."""
    known = set(names)
    unused = {
        n for n in known if n.endswith(_HALF) or (not n.endswith(_COMPRESSED) and n + _COMPRESSED in known)
    }
    kept = sorted(known - unused)
    excess = max(0, len(kept) - max(0, files - 2))
    compress = tuple(n for n in kept[excess:] if not n.endswith(_COMPRESSED))
    return Tidying((*sorted(unused), *kept[:excess]), compress)


def compress(path: Path) -> None:
    """Replace a file by its compressed form; a crash leaves the file, or both, never none."""
    half = path.with_name(path.name + _HALF)
    with path.open("rb") as source, gzip.open(half, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 256 * 1024)
    half.rename(path.with_name(path.name + _COMPRESSED))
    path.unlink()


class LogRotator:
    """Looks at the logs of running containers every few seconds; few logs are rotated at a time."""

    def __init__(
        self, world: World, runtime: Runtime, limits: Limits, running: Callable[[], list[Container]]
    ) -> None:
        self._world, self._runtime, self._limits = world, runtime, limits
        self._running = running

    async def run(self) -> None:
        while True:
            await self._world.clock.sleep(self._limits.period)
            await self.look()

    async def look(self) -> list[str]:
        """One look at all logs; the ids of the containers whose logs were rotated."""
        rotated: list[str] = []
        todo = iter(self._running())

        async def work() -> None:
            for container in todo:
                try:
                    if await self._rotate_if_large(container):
                        rotated.append(container.id)
                except (RuntimeFailure, OSError) as failure:
                    log.warning("cannot rotate the log %s yet: %s", container.log_path, failure)

        await asyncio.gather(*(work() for _ in range(self._limits.workers)))
        return rotated

    async def _rotate_if_large(self, container: Container) -> bool:
        if not container.log_path:
            return False
        path = Path(container.log_path)
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # a rotation was cut off between its two steps, or somebody removed it
            await self._runtime.reopen_log(container.id)
            return False
        if size < self._limits.size:
            return False
        await self._tidy(path)
        stamp = datetime.fromtimestamp(self._world.clock.now(), UTC).strftime("%Y%m%d-%H%M%S")
        rotated = path.with_name(f"{path.name}.{stamp}")
        path.rename(rotated)
        try:
            await self._runtime.reopen_log(container.id)
        except RuntimeFailure:
            rotated.rename(path)  # so that it is tried again at the next look
            raise
        return True

    async def _tidy(self, path: Path) -> None:
        names = [n for n in os.listdir(path.parent) if n.startswith(path.name + ".")]
        todo = tidying(names, self._limits.files)
        for name in todo.remove:
            path.with_name(name).unlink(missing_ok=True)
        for name in todo.compress:
            await beside(lambda n=name: compress(path.with_name(n)))  # type: ignore[misc]
