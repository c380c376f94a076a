"""The users of the pods on this machine: given once, written down before they are used, remembered over restarts.

A file that cannot be read costs its own pod only: it gets no new containers, and is told why. (The kubelet would not start.)
"""

from __future__ import annotations

import logging
from pathlib import Path

from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.host.threads import beside
from bamikube.nodeagent.runtime.port import IdMap
from bamikube.nodeagent.users import text
from bamikube.nodeagent.users.ranges import NoRange, Ranges
from bamikube.nodeagent.volumes.faults import plain
from bamikube.pki import files

log = logging.getLogger(__name__)

FILE = "userns"  # in the pod's folder


class Users:
    """``pods`` holds a folder for each pod, named by its uid."""

    def __init__(self, pods: Path, ranges: Ranges) -> None:
        self._pods = pods
        self._ranges = ranges

    def recall(self) -> None:
        """Look through the pods' folders for what was given before this node agent began."""
        for file in self._pods.glob(f"*/{FILE}"):
            uid = file.parent.name
            try:
                self._recorded(uid)
            except (ValueError, NoRange, OSError) as error:
                log.warning("%s: %s; the pod gets no more containers", file, error)

    def _recorded(self, uid: str) -> IdMap | None:
        """What a pod's file says, None for a pod that has none (yet)."""
        try:
            written = (self._pods / uid / FILE).read_bytes()
        except FileNotFoundError:
            return None
        if not written:
            return None
        found = text.read(written)
        try:
            self._ranges.record(uid, found)
        except NoRange:
            self._ranges.keep(uid, found)
            raise
        return found

    async def of(self, uid: str) -> IdMap:
        """The users of a pod; it gets some if it has none. Raises HostFailure in the kubelet's words."""
        file = self._pods / uid / FILE
        try:
            recorded = self._recorded(uid)
        except (ValueError, NoRange, OSError) as error:
            raise HostFailure(f"user namespace: {plain(error)}") from error
        if recorded is not None:
            return recorded
        try:
            found = self._ranges.take(uid)
            await beside(lambda: _write(file, text.written(found)))
        except (NoRange, OSError) as error:
            raise HostFailure(f"create user namespace: {plain(error)}") from error
        return found

    def release(self, uid: str) -> None:
        """The pod is gone, and its folder."""
        self._ranges.release(uid)


def _write(path: Path, content: bytes) -> None:
    path.parent.stat()  # the folder of a pod that has gone meanwhile is not made anew
    files.write_atomically(path, content, files.PUBLIC)
