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
from typing import NamedTuple

from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.runtime.port import TreeMount

_BIND, _REMOUNT = 4096, 32  # MS_BIND, MS_REMOUNT
# Mount options that are flags of the kernel, in mount(8)'s names; only these can be given to a bind.
_FLAGS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21,
    "strictatime": 1 << 24, "rw": 0, "suid": 0, "dev": 0, "exec": 0, "atime": 0, "bind": 0, "defaults": 0,
}  # fmt: skip
_KEPT = 1 | 2 | 4 | 8  # ro, nosuid, nodev, noexec
_REC, _PRIVATE = 0x4000, 1 << 18  # MS_REC, MS_PRIVATE
_MOUNT_SETATTR, _AT_RECURSIVE = 442, 0x8000
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


def mount_new(kind: str, path: Path, options: str) -> None:
    """A new file system of that kind at ``path``. Raises HostFailure."""
    name = kind.encode()
    if _libc.mount(name, os.fsencode(path), name, 0, options.encode()) != 0:
        raise HostFailure(f"cannot mount a {kind} at {path}: {os.strerror(ctypes.get_errno())}")


def flags(options: list[str]) -> int:
    """Mount options as the kernel's flags. Raises HostFailure for one that a bind cannot have."""
    result = 0
    for option in options:
        if option not in _FLAGS:
            raise HostFailure(f"mount failed: a bind mount has no option {option!r}")
        result |= _FLAGS[option]
    return result


def bind(source: str, target: Path, flags: int = 0) -> None:
    """Show at ``target`` what is at ``source``, without what is mounted below it. Raises HostFailure."""
    where = os.fsencode(target)
    if _libc.mount(os.fsencode(source), where, None, _BIND, None) != 0:
        raise HostFailure(f"cannot bind {source} to {target}: {os.strerror(ctypes.get_errno())}")
    # The kernel heeds flags only when a bind is mounted anew, and then forgets those that the source has.
    more = flags | (os.statvfs(target).f_flag & _KEPT)
    if flags and _libc.mount(None, where, None, _BIND | _REMOUNT | more, None) != 0:
        code = ctypes.get_errno()
        unmount(str(target))
        raise HostFailure(f"cannot set the mount options of {target}: {os.strerror(code)}")


def mount_device(device: Path, target: Path, kind: str, options: list[str]) -> None:
    """Mount a block device's file system. Raises HostFailure."""
    given = sum({_FLAGS[option] for option in options if option in _FLAGS})
    data = ",".join(option for option in options if option not in _FLAGS)
    where, name = os.fsencode(target), os.fsencode(device)
    if _libc.mount(name, where, kind.encode(), given, os.fsencode(data) or None) != 0:
        raise HostFailure(f"cannot mount {device} at {target}: {os.strerror(ctypes.get_errno())}")


def mount_tree(tree: TreeMount, target: Path, flags: int) -> None:
    """Mount what a runtime shows of an image. Raises HostFailure."""
    if tree.type == "bind":
        bind(tree.source, target, flags)
        return
    data = ",".join(option for option in tree.options if option not in _FLAGS)
    kind = os.fsencode(tree.type)
    if _libc.mount(os.fsencode(tree.source), os.fsencode(target), kind, flags, os.fsencode(data)) != 0:
        raise HostFailure(f"cannot mount the image at {target}: {os.strerror(ctypes.get_errno())}")


def sets_recursively() -> bool:
    """Whether the kernel can set a whole tree of mounts read-only (5.12 and newer)."""
    _libc.syscall(_MOUNT_SETATTR, -1, ctypes.c_char_p(b""), 0, None, ctypes.c_size_t(0))
    return ctypes.get_errno() != errno.ENOSYS


def bind_read_only(source: str, target: Path) -> bool:
    """Show at ``target`` what is at ``source`` with all that is mounted below it, nothing of it to be written.

    False where the kernel cannot do that (before 5.12). Raises HostFailure.
    """
    where = os.fsencode(target)
    if _libc.mount(os.fsencode(source), where, None, _BIND | _REC, None) != 0:
        raise HostFailure(f"cannot bind {source} to {target}: {os.strerror(ctypes.get_errno())}")
    attributes = (ctypes.c_uint64 * 4)(1, 0, _PRIVATE, 0)  # set, clear, propagation, user namespace
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    name = ctypes.c_char_p(where)
    if _libc.syscall(_MOUNT_SETATTR, -1, name, _AT_RECURSIVE, ctypes.byref(attributes), size) == 0:
        return True
    code = ctypes.get_errno()
    unmount(str(target))
    if code == errno.ENOSYS:
        return False
    raise HostFailure(f"cannot make {target} read-only: {os.strerror(code)}")


def bound_elsewhere(source: Path) -> bool:
    """Whether this folder is bound to another place. Nothing is asked of the file systems: one of them may hang."""
    real, known = os.path.realpath(source), _mounts()
    over = [m for m in known if real == m.point or real.startswith(m.point.rstrip("/") + "/")]
    if not over:
        return False
    holder = max(over, key=lambda m: len(m.point))
    root = os.path.normpath(os.path.join(holder.root, os.path.relpath(real, holder.point)))
    return any(m.device == holder.device and m.root == root and m.point != real for m in known)


def unmount(path: str) -> None:
    """Detach what is mounted at ``path``. Raises HostFailure."""
    if _libc.umount2(os.fsencode(path), _DETACH) != 0:
        raise HostFailure(f"cannot unmount {path}: {os.strerror(ctypes.get_errno())}")


class _Mount(NamedTuple):
    """A line of mountinfo: ``root`` is the part of the file system that is shown at ``point``."""

    device: str
    root: str
    point: str


def _mounts() -> list[_Mount]:
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        device, root, point = (
            os.fsdecode(_OCTAL.sub(lambda m: bytes([int(m.group(1), 8)]), part)) for part in line.split()[2:5]
        )
        found.append(_Mount(device, root, point))
    return found


def mount_points() -> list[str]:
    """Where something is mounted in this mount namespace."""
    return [mount.point for mount in _mounts()]
