"""The looks behind the verdicts: small reads of the machine, of the runtime and of the API server's clock."""

from __future__ import annotations

import logging
import os
import tempfile
from email.utils import parsedate_to_datetime
from pathlib import Path

from bamikube.client.client import Client
from bamikube.kit.http import Response
from bamikube.kit.world import World
from bamikube.nodeagent.runtime.port import Condition, Runtime, RuntimeFailure
from bamikube.nodeagent.startup import verdicts
from bamikube.nodeagent.startup.verdicts import Finding, Machine

log = logging.getLogger(__name__)


def machine(root: Path, cgroups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> Machine:
    """What this machine is like."""
    v2 = (cgroups / "cgroup.controllers").exists()
    controllers = (
        (cgroups / "cgroup.controllers").read_text().split()
        if v2
        else [name for at in cgroups.iterdir() if (at / "tasks").exists() for name in at.name.split(",")]
        if cgroups.is_dir()
        else []
    )
    return Machine(
        user=os.geteuid(),
        root=str(root),
        root_fault=_fault(root),
        controllers=frozenset(controllers),
        cgroups_v2=v2,
        swap=_swap(proc / "swaps"),
    )


def kernel(proc: Path = Path("/proc")) -> dict[str, int]:
    """The settings that :data:`verdicts.KERNEL` is about."""
    found = {}
    for name in verdicts.KERNEL:
        try:
            found[name] = int((proc / "sys" / name).read_text())
        except OSError:
            log.info("this kernel does not tell %s", name)
    return found


def _fault(root: Path) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix=".writable-"):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _swap(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return ()
    return tuple(line.split()[0] for line in lines if line.strip())


def demand(root: Path, *, fail_swap_on: bool, fail_cgroup_v1: bool, protect_kernel: bool) -> None:
    """Log what is missing; raise ValueError, with all that is fatal, when this machine cannot be a node."""
    found = verdicts.of_machine(machine(root), fail_swap_on=fail_swap_on, fail_cgroup_v1=fail_cgroup_v1)
    if protect_kernel:
        found += verdicts.of_kernel(kernel())
    for finding in found:
        if not finding.fatal:
            log.warning("%s", finding)
    if fatal := [str(finding) for finding in found if finding.fatal]:
        raise ValueError(" | ".join(fatal))


async def look_around(runtime: Runtime, endpoint: str) -> None:
    """Log what keeps the runtime from running pods. It is asked again with every status: nothing ends for it."""
    failure, conditions = "", tuple[Condition, ...]()
    try:
        conditions = (await runtime.health()).conditions
    except RuntimeFailure as error:
        failure = error.message
    _tell(verdicts.of_runtime(endpoint, failure, conditions))


async def compare_clocks(client: Client, world: World) -> None:
    """Log when this machine's clock is not the API server's."""
    try:
        answer = await client.raw("GET", "/version")
        if isinstance(answer, Response):
            there = next((v for k, v in answer.headers.items() if k.lower() == "date"), "")
            found = verdicts.of_clock(world.clock.now(), parsedate_to_datetime(there).timestamp())
            _tell([found] if found is not None else [])
    except (OSError, ValueError) as error:
        log.debug("cannot compare clocks with the API server: %s", error)


def _tell(found: list[Finding]) -> None:
    for finding in found:
        log.warning("%s", finding)
