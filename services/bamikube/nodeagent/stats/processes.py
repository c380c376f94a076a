"""What processes have open: descriptors and sockets, and how many files they may open."""

from __future__ import annotations

import os
from collections.abc import Iterable

UNLIMITED = -1


def opened(pids: Iterable[int], proc: str = "/proc") -> tuple[int, int]:
    """How many descriptors processes have open, and how many of those are sockets. One that is gone has none."""
    descriptors = sockets = 0
    for pid in pids:
        folder = f"{proc}/{pid}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        descriptors += len(names)
        for name in names:
            try:
                sockets += os.readlink(f"{folder}/{name}").startswith("socket:")
            except OSError:  # closed meanwhile
                continue
    return descriptors, sockets


def most_open_files(pid: int, proc: str = "/proc") -> int | None:
    """The soft limit of open files; UNLIMITED, or None when the process is gone."""
    try:
        with open(f"{proc}/{pid}/limits") as file:
            found = next((line for line in file if line.startswith("Max open files")), "")
    except OSError:
        return None
    words = found.split()
    if len(words) < 5:
        return None
    return int(words[3]) if words[3].isdigit() else UNLIMITED
