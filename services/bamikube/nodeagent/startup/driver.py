"""Who makes cgroups, the node agent or systemd: what the runtime does itself, as both have to agree (KEP-4033).

A runtime that cannot tell (containerd before 2.0) leaves it to ``--cgroup-driver``. So does one that does not answer in time; it is
asked on, and when it turns out to do otherwise the node agent ends, to begin again with what is right.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from bamikube.kit.clock import Clock
from bamikube.nodeagent import figures
from bamikube.nodeagent.runtime.port import RuntimeFailure
from bamikube.nodeagent.startup import verdicts

RUNS = Path("/run/systemd/system")  # is there where systemd runs the machine

log = logging.getLogger(__name__)

TRIES = 3
PAUSE = 1.0  # seconds between two
LATER = 5.0  # seconds between two when the node agent has begun without an answer
LAST = "1.36.0"  # the version of Kubernetes that takes no runtime any more which cannot tell


class Asked(Protocol):
    async def cgroup_driver(self) -> str:
        """``systemd``, ``cgroupfs``, or "" where the runtime does not care. Raises RuntimeFailure."""


async def choose(runtime: Asked, configured: str, clock: Clock) -> tuple[str, bool]:
    """The driver, and whether that is certain. Raises OSError for one that this machine does not have."""
    found: str | None = None
    for attempt in range(TRIES):
        if attempt:
            await clock.sleep(PAUSE)
        if (found := await _told(runtime, configured)) is not None:
            break
    else:
        log.warning("the runtime does not tell its cgroup driver; going on with %s", configured)
    if fault := verdicts.of_driver(found or configured, RUNS.is_dir()):
        raise OSError(str(fault))
    return found or configured, found is not None


async def _told(runtime: Asked, configured: str) -> str | None:
    try:
        found = await runtime.cgroup_driver()
    except RuntimeFailure as failure:
        if failure.code != "UNIMPLEMENTED":
            return None
        log.info(
            "CRI implementation should be updated to support RuntimeConfig. Falling back to using cgroupDriver from kubelet config."
        )
        figures.CRI_LOSING_SUPPORT.labels(LAST).set(1)
        return configured
    if found:
        log.info("Using cgroup driver setting received from the CRI runtime: %s", found)
    return found or configured


async def verify(runtime: Asked, configured: str, clock: Clock) -> None:
    """Ask until there is an answer. Raises OSError when it is another than was taken for granted."""
    while (found := await _told(runtime, configured)) is None:
        await clock.sleep(LATER)
    if found != configured:
        raise OSError(f"the runtime's cgroup driver is {found}, not {configured}: beginning again with it")
