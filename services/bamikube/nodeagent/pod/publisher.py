"""A pod's status on its way to the API: only changes, newest wins, in order.

The worker offers a status after every plan; while a patch is under way newer ones replace each other. A failed patch is
tried again, also one that was refused as a conflict; only a pod that is gone ends the publishing. What somebody else has
made of the node agent's own fields is put right again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.nodeagent import figures
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON

log = logging.getLogger(__name__)

RECONCILE = 2.0  # seconds until fields that somebody else wrote are put right: two that fight do so slowly
FLUSH = 30.0  # seconds the last words of a pod may take
PASSING = ("PodResizePending", "PodResizeInProgress")  # conditions that are taken away again
LEAVING = (*PASSING, "PodScheduled")  # the last one of a pod that the node refuses, as the kubelet does
OWN = (
    "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "DisruptionTarget",
    *PASSING,
)  # fmt: skip
_FIELDS = ("reason", "message", "podIP", "podIPs")


def patch_between(old: JSON, new: JSON) -> JSON:
    """A strategic merge patch of the fields that differ; {} if none does. Conditions merge by type at the server."""
    patch: JSON = {key: value for key, value in new.items() if _differ(old.get(key), value)}
    for key in _FIELDS:
        if old.get(key) and key not in new:
            patch[key] = None
    if "conditions" in patch:
        before = {c["type"]: c for c in old.get("conditions") or ()}
        patch["conditions"] = [
            # Merging keeps fields the patch does not name, so a message that is gone has to be named.
            c | {field: None for field in before.get(c["type"], {}) if field not in c}
            for c in new["conditions"]
            if _differ(before.get(c["type"]), c)
        ]
        there = {c["type"] for c in new["conditions"]}
        patch["conditions"] += [
            {"$patch": "delete", "type": kind} for kind in LEAVING if kind in before and kind not in there
        ]
        if not patch["conditions"]:
            del patch["conditions"]
    for key in ("podIPs", "hostIPs"):
        if patch.get(key):
            kept = {item["ip"] for item in patch[key]}
            gone = [item["ip"] for item in old.get(key) or () if item["ip"] not in kept]
            patch[key] = [*patch[key], *({"$patch": "delete", "ip": ip} for ip in gone)]
    return patch


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other and _bare(one) != _bare(other))  # most are the same as they are


def _bare(value: Any) -> Any:
    """``value`` without its nulls, which the API may or may not keep."""
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if item is not None}
    return [_bare(item) for item in value] if isinstance(value, list) else value


class Publisher:
    """Writes one pod's status."""

    def __init__(self, shared: Shared, pod: Callable[[], JSON]) -> None:
        self._shared = shared
        self._pod = pod
        self._since = (
            0.0  # when what is wanted differed first from what was written, on the clock that never jumps
        )
        self._sent: JSON = dict(pod().get("status") or {})
        self._wanted: JSON | None = None
        self._writing: JSON | None = None  # what is under way
        self._version = 0  # resourceVersion of the last write's answer
        self._kept: JSON = {}  # what the API server keeps different from what was sent; asking again is in vain
        self._said = False  # something was written
        self._foreign = False  # what is wanted next only puts right what somebody else wrote
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def known(self, status: JSON) -> JSON:
        """``status`` with what others own as the API has it now: their conditions, and an end that they declared."""
        there = self._pod().get("status") or {}
        foreign = there.get("conditions") or ()
        own = [c for c in status.get("conditions") or () if c["type"] in OWN]
        if not own:
            own = [c for c in foreign if c["type"] in OWN]
        known = status | {"conditions": [*own, *(c for c in foreign if c["type"] not in OWN)]}
        if there.get("phase") in ("Succeeded", "Failed"):
            known |= {key: there[key] for key in ("phase", "reason", "message") if key in there}
        return _with_words(known, there)

    def offer(self, status: JSON) -> None:
        """Publish ``status`` soon, if it differs from what was published last."""
        mine = self._mine(status)
        if not self._closed and patch_between(self._wanted or self._writing or self._sent, mine):
            self._want(mine, foreign=False)

    def _mine(self, status: JSON) -> JSON:
        """``status`` with the node agent's own conditions."""
        return status | {"conditions": [c for c in status.get("conditions") or () if c["type"] in OWN]}

    def _want(self, status: JSON, *, foreign: bool) -> None:
        if self._wanted is None and self._writing is None:
            self._since = self._shared.world.clock.monotonic()
        self._wanted, self._foreign = status, foreign
        self._idle.clear()
        self._changed.set()

    def observe(self, pod: JSON) -> None:
        """The pod as the API has it: where its status is not what was written, write it again.

        What the informer tells may be older than the last write; then it says nothing.
        """
        if self._closed or not self._said or not self._idle.is_set() or _version(pod) <= self._version:
            return
        there = dict(pod.get("status") or {})
        right = _with_words(self._mine(self._sent), there)
        wrong = patch_between(there, right)
        if wrong and wrong != self._kept:
            self._sent = there
            self._want(right, foreign=True)

    def close(self) -> None:
        """The pod is gone: publish nothing more."""
        self._closed = True
        self._wanted = None
        self._idle.set()

    async def flush(self) -> None:
        """Wait until everything offered is written (or given up)."""
        try:
            async with asyncio.timeout(FLUSH):
                await self._idle.wait()
        except TimeoutError:
            log.warning("the last status of pod %s could not be written", self._pod()["metadata"]["name"])

    async def run(self) -> None:
        wait = 0.2
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._wanted is not None:
                if self._foreign:
                    await self._pause()
                    continue
                status, self._wanted = self._wanted, None
                patch = patch_between(self._sent, status)
                if not patch:  # it changed and changed back before anybody was told
                    continue
                self._writing = status
                try:
                    written = await self._shared.api.write_status(self._pod(), patch)
                except ApiError as error:
                    if error.code == 404:
                        self.close()
                        continue
                    wait = await self._later(status, error, wait)
                except (
                    Exception
                ) as error:  # whatever it is: a status that nobody writes any more helps nobody
                    wait = await self._later(status, error, wait)
                else:
                    self._said, wait = True, 0.2
                    figures.STATUS_SYNC_SECONDS.observe(self._shared.world.clock.monotonic() - self._since)
                    self._answered(status, written)
                    del written  # else every idle pod keeps all of the last answer
                finally:
                    self._writing = None
            self._idle.set()

    async def _pause(self) -> None:
        """Let whoever else writes this status go first; news of our own do not wait for that."""
        self._foreign = False
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECONCILE):
                await self._changed.wait()

    def _answered(self, status: JSON, written: JSON) -> None:
        """``status`` was written. Where the answer differs somebody wrote in between (or the API server knows better)."""
        self._sent, self._version = status, _version(written)
        there = dict(written.get("status") or {})
        before, self._kept = self._kept, patch_between(there, status)
        if not self._closed and self._kept and self._kept != before and self._wanted is None:
            self._sent = there
            self._want(status, foreign=True)

    async def _later(self, status: JSON, error: Any, wait: float) -> float:
        log.warning("cannot write the status of pod %s: %s", self._pod()["metadata"]["name"], error)
        if self._closed:
            return wait
        self._wanted = self._wanted or status
        await self._shared.world.clock.sleep(wait)
        return min(wait * 2, 5.0)


def _with_words(status: JSON, there: JSON) -> JSON:
    """``status`` with the reason and the message that somebody else gave to the same phase."""
    if there.get("phase") != status.get("phase"):
        return status
    return {key: there[key] for key in ("reason", "message") if there.get(key)} | status


def _version(pod: JSON) -> int:
    text = str((pod.get("metadata") or {}).get("resourceVersion") or "0")
    return int(text) if text.isascii() and text.isdigit() else 0
