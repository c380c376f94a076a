"""The one lab of this machine: where its state lies, and the lock around changing it.

A lab's bridge, table, cgroups and addresses carry fixed names, so a machine runs one at a time. ``/run/bamikube``
(gone after ``down`` and after a reboot) tells any command, from any folder, which one that is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bamikube.lab.topology import MACHINE_STATE, LabPaths

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


def remember(paths: LabPaths) -> None:
    """Note that the lab at ``paths`` is the machine's. Raises OtherLab if there is another one."""
    other = current()
    if other is not None and other != paths.root and other.is_dir():
        raise OtherLab(
            f"this machine already has a lab, at {other}. Stop it first: bamikube --lab-dir {other} down"
        )
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
