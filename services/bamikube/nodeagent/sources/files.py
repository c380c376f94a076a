"""The folder (or the file) of manifests, looked at once a second.

A file that has changed is read when it has stayed the same for one look: whoever writes it may not be done. A faulty
one is told of once, in the log, and describes no pod; the others are not concerned. A folder that is not there is
empty; one that cannot be read says nothing, and the pods stay as they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from bamikube.kit.world import World
from bamikube.nodeagent.pod.facts import JSON

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds
LARGEST = 10 << 20  # bytes
Mark = tuple[int, int, int]  # of a file's state


class ManifestFiles:
    """``take`` is called with all pods of the folder, first and whenever they have changed."""

    def __init__(self, world: World, path: str, node: str, take: Callable[[list[JSON]], None]) -> None:
        self._world, self._path, self._node, self._take = world, Path(path), node, take
        self._seen: dict[Path, Mark] | None = None  # at the last look
        self._read: dict[Path, tuple[Mark, JSON | None]] = {}
        self._told = ""

    async def run(self) -> None:
        first = True
        while True:
            try:
                if await asyncio.to_thread(self.look) or first:
                    self._take(self.pods())
                    first = False
                self._told = ""
            except OSError as error:
                if str(error) != self._told:
                    log.warning("--pod-manifest-path %s cannot be read: %s", self._path, error)
                self._told = str(error)
            await self._world.clock.sleep(LOOK)

    def pods(self) -> list[JSON]:
        """What the files describe; of two pods of one name the first file's."""
        found: dict[tuple[str, str], JSON] = {}
        for path, (_, pod) in sorted(self._read.items()):
            if pod is not None:
                key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
                if found.setdefault(key, pod) is not pod:
                    log.error("manifest %s: another file describes pod %s/%s", path, *key)
        return list(found.values())

    def look(self) -> bool:
        """Read what is new; whether anything changed. Raises OSError."""
        marks, seen = self._marks(), self._seen
        changed = bool(self._read.keys() - marks.keys())
        self._read = {path: known for path, known in self._read.items() if path in marks}
        for path, mark in marks.items():
            known = self._read.get(path)
            settled = seen is None or seen.get(path) == mark  # what lies there at the start nobody is writing
            if (known and known[0] == mark) or not settled:
                continue
            self._read[path] = (mark, self._pod(path))
            changed = True
        self._seen = marks
        return changed

    def _marks(self) -> dict[Path, Mark]:
        try:
            if not self._path.is_dir():
                entries = [self._path]
            else:
                entries = [e for e in self._path.iterdir() if not e.name.startswith(".") and e.is_file()]
            found = {}
            for entry in entries:
                at: os.stat_result = entry.stat()
                found[entry] = (at.st_mtime_ns, at.st_size, at.st_ino)
            return found
        except FileNotFoundError:
            return {}

    def _pod(self, path: Path) -> JSON | None:
        from bamikube.nodeagent.sources import manifest  # large: see there

        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f"it has more than {LARGEST} bytes")
            return manifest.parse(path.read_bytes(), self._node, str(path), self._world.clock.now())
        except (ValueError, OSError) as error:
            log.error("manifest %s: %s", path, error)
        except Exception:  # whatever a file holds, the others are not concerned
            log.exception("manifest %s cannot be read as a pod", path)
        return None
