"""How full file systems are, and what a folder takes of one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, in bytes and inodes."""

    capacity: int = 0
    available: int = 0
    used: int = 0
    inodes: int = 0
    inodes_free: int = 0

    @property
    def inodes_used(self) -> int:
        return self.inodes - self.inodes_free


@dataclass(frozen=True, slots=True)
class Taken:
    """What files take: bytes of blocks, and how many there are."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.bytes + other.bytes, self.inodes + other.inodes)


def device_name(number: str, base: Path = Path("/sys/dev/block")) -> str:
    """``/dev/sda`` for ``8:0``; the number itself when the kernel does not tell."""
    try:
        text = (base / number / "uevent").read_text()
    except OSError:
        return number
    return next(
        (f"/dev/{x.removeprefix('DEVNAME=')}" for x in text.splitlines() if x.startswith("DEVNAME=")), number
    )


def device_of(path: Path | str, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """What a file system lies on, as it was mounted: ``/dev/sda1``; for one without a device its type, such as ``overlay``."""
    wanted = number_of(path)
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        first, _, second = line.partition(" - ")
        fields, about = first.split(), second.split()
        if len(fields) > 2 and fields[2] == wanted and len(about) > 1:
            return about[1] if about[1].startswith("/") else about[0]
    return device_name(wanted) if wanted else ""


def number_of(path: Path | str) -> str:
    """The number of the device a path lies on, ``8:1``; "" for a path that there is not."""
    try:
        number = os.stat(path).st_dev
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def disk(path: Path | str) -> Disk:
    """The file system ``path`` lies on; all zero when it cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return Disk()
    size = found.f_frsize
    return Disk(
        found.f_blocks * size,
        found.f_bavail * size,
        (found.f_blocks - found.f_bfree) * size,
        found.f_files,
        found.f_ffree,
    )


def taken(path: Path | str) -> Taken:
    """What a folder takes, links of one file counted once and other file systems left out."""
    seen: set[int] = set()
    total = count = 0
    try:
        root = os.lstat(path)
    except OSError:
        return Taken()
    total, count = root.st_blocks * 512, 1
    waiting = [os.fspath(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # gone meanwhile
                    if stat.st_dev != root.st_dev or (stat.st_nlink > 1 and stat.st_ino in seen):
                        continue
                    seen.add(stat.st_ino)
                    total, count = total + stat.st_blocks * 512, count + 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return Taken(total, count)
