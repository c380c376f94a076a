"""The one lab of this machine: where its state lies, and the lock around changing it.

A lab's bridge, table, cgroups and addresses carry fixed names, so a machine runs one at a time. ``/run/bamikube``
(gone after ``down`` and after a reboot) tells any command, from any folder, which one that is. A lab whose processes
were all killed is *dead*: what is left of it in the kernel is nobody's, and the next ``up`` or ``down`` takes it away.
Every process of a lab lives in the lab's cgroup, which outlives even the lab's folder, so that is where to look.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bamikube.lab import cgroups
from bamikube.lab.topology import MACHINE_STATE, LabPaths, Topology

_LOCK = Path("/run/lock/bamikube-lab.lock")


class Busy(RuntimeError):
    """Another command is changing the lab right now."""


class OtherLab(RuntimeError):
    """The machine runs a lab whose state lies elsewhere."""


def current() -> Path | None:
    """The state folder of the lab that was started on this machine, if any."""
    try:
        return Path((MACHINE_STATE / "lab").read_text(encoding="utf-8").strip())
    except OSError:
        return None


def alive(topology: Topology) -> bool:
    """Whether any process of a lab runs, wherever the lab's folder is or was."""
    return bool(cgroups.processes(topology.cgroup))


def other(paths: LabPaths) -> Path | None:
    """The folder of a lab of this machine that is not the one at ``paths``."""
    found = current()
    return found if found != paths.root else None


def refuse_other(paths: LabPaths, topology: Topology) -> None:
    """Raises OtherLab if a lab that is not the one at ``paths`` runs here."""
    found = other(paths)
    if found is not None and found.is_dir() and alive(topology):
        raise OtherLab(
            f"this machine already has a lab, at {found}. Stop it first: bamikube --lab-dir {found} down"
        )


def remember(paths: LabPaths) -> None:
    """Note that the lab at ``paths`` is the machine's."""
    MACHINE_STATE.mkdir(mode=0o755, exist_ok=True)
    (MACHINE_STATE / "lab").write_text(f"{paths.root}\n", encoding="utf-8")


def forget() -> None:
    """The machine has no lab any more."""
    for name in ("lab", "ip_forward"):
        (MACHINE_STATE / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        MACHINE_STATE.rmdir()


def choose(given: Path | None, cache: Path | None = None) -> LabPaths:
    """The lab a command means: the one named, else this machine's, else ``.lab`` here."""
    return LabPaths.at(given or current() or Path(".lab"), cache)


@contextmanager
def changing() -> Iterator[None]:
    """Held by every command that changes the lab. Raises Busy naming the process that holds it."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise Busy(
                f"another bamikube command is changing the lab (process {holder}); wait for it"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it was never ours
            _LOCK.unlink(missing_ok=True)
        os.close(descriptor)
