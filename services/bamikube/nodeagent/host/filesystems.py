"""File systems on block devices: what is on one, made on an empty one, mounted.

As careful as the kubelet: a device is formatted only when nothing at all can be found on it, neither a file system nor
partitions; anything else is mounted as it is, or not at all. blkid(8) and mkfs(8) do the work: this is rare, so a process may
be started for it.
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

from bamikube.nodeagent.host import mounting
from bamikube.nodeagent.host.port import HostFailure

log = logging.getLogger(__name__)

_NOTHING_FOUND = 2  # blkid's answer for an empty device
_TIMEOUT = 100.0  # seconds for looking or making
_QUICKLY = {"ext2": ["-F"], "ext3": ["-F", "-m0"], "ext4": ["-F", "-m0"], "xfs": ["-f"]}  # without questions


def mount(device: Path, target: Path, kind: str, options: list[str]) -> None:
    """Mount the file system of ``device``, one of ``kind`` made first if there is nothing on it. Raises HostFailure."""
    found = on(device)
    if not found:
        if "ro" in options:
            raise HostFailure(
                f"cannot mount unformatted disk {device} as we are manipulating it in read-only mode"
            )
        log.info("nothing is on %s: making a file system of kind %s on it", device, kind)
        _run([f"mkfs.{kind}", *_QUICKLY.get(kind, []), str(device)])
    target.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        mounting.mount_device(device, target, kind, options)
    except HostFailure as failure:
        if found and found != kind:
            raise HostFailure(
                f'failed to mount the volume as "{kind}", it already contains {found}. Mount error: {failure}'
            ) from failure
        raise


def on(device: Path) -> str:
    """The kind of file system on a device, '' when nothing is. Raises HostFailure."""
    done = _run(
        ["blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", str(device)], fine=(0, _NOTHING_FOUND)
    )
    values = dict(line.split("=", 1) for line in done.splitlines() if "=" in line)
    if values.get("TYPE"):
        return values["TYPE"]
    return "unknown data, probably partitions" if values.get("PTTYPE") else ""


def _run(command: list[str], fine: tuple[int, ...] = (0,)) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostFailure(f"{command[0]}: {error}; install util-linux and the file system's tools") from error
    if done.returncode not in fine:
        raise HostFailure(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
