"""mount(2) and umount2(2), called directly.

A pod start needs a tmpfs for its token. Starting mount(8) for that would fork the node agent: tens of milliseconds on
a busy machine, and every fork disturbs gRPC, which complains into the log. The system calls take microseconds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

from bamikube.nodeagent.host.port import HostFailure

_BIND = 4096  # MS_BIND
_DETACH = 2  # MNT_DETACH: take it out of sight now, free it when its last user is gone
_OCTAL = re.compile(rb"\\([0-7]{3})")  # how mountinfo writes blanks and the like
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount_tmpfs(path: Path, options: str) -> None:
    """A new tmpfs at ``path``, never swapped to a disk where the kernel can promise that (6.4 and newer).

    ``options`` as in ``mount -o``. Raises HostFailure.
    """
    target = os.fsencode(path)
    for more in (",noswap", ""):
        if _libc.mount(b"tmpfs", target, b"tmpfs", 0, (options + more).encode()) == 0:
            return
        if ctypes.get_errno() != errno.EINVAL:
            break
    raise HostFailure(f"cannot mount a tmpfs at {path}: {os.strerror(ctypes.get_errno())}")


def bind(source: str, target: Path) -> None:
    """Show at ``target`` what is at ``source``, without what is mounted below it. Raises HostFailure."""
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND, None) != 0:
        raise HostFailure(f"cannot bind {source} to {target}: {os.strerror(ctypes.get_errno())}")


def unmount(path: str) -> None:
    """Detach what is mounted at ``path``. Raises HostFailure."""
    if _libc.umount2(os.fsencode(path), _DETACH) != 0:
        raise HostFailure(f"cannot unmount {path}: {os.strerror(ctypes.get_errno())}")


def mount_points() -> list[str]:
    """Where something is mounted in this mount namespace."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        found.append(os.fsdecode(_OCTAL.sub(lambda m: bytes([int(m.group(1), 8)]), line.split()[4])))
    return found
