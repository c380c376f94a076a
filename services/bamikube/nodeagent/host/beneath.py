"""Opening and making what lies beneath a folder, while somebody else may be changing it.

A pod owns what is in its volumes and may put a symlink where a folder was, between our look and our use. So a path is
resolved once, judged, and then opened with openat2(2), which refuses every symlink on the way: what is opened is what
was judged, or nothing. Python has no openat2, so it is called as a system call.

Worked example: volume ``/v``, path ``a/b``, ``/v/a -> /etc``. It resolves to ``/etc/b``, which is not in ``/v``: refused.
With ``/v/a -> c`` it resolves to ``/v/c/b`` and is opened as ``c/b`` beneath ``/v``; should ``c`` become a link to
``/etc`` meanwhile, the kernel answers ELOOP.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENAT2 = 437  # the same on all architectures
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UMASK = 0o022
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _openat2(folder: int, path: str, flags: int) -> int:
    how = _How(flags | os.O_CLOEXEC, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    name = ctypes.c_char_p(os.fsencode(path or "."))
    found = _libc.syscall(_OPENAT2, folder, name, ctypes.byref(how), ctypes.sizeof(how))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return int(found)


@contextmanager
def opened(base: Path, part: str) -> Iterator[int]:
    """A descriptor (O_PATH) of what lies at ``part`` below ``base``. Raises OSError, EXDEV when that is elsewhere."""
    root = os.path.realpath(base)
    folder = os.open(root, _FOLDER)
    try:
        found = _openat2(folder, _within(root, os.path.realpath(os.path.join(root, part))), os.O_PATH)
        try:
            yield found
        finally:
            os.close(found)
    finally:
        os.close(folder)


def make_folders(base: Path, part: str, mode: int) -> None:
    """Make the folders of ``part`` that are not there; the last of them gets exactly ``mode``. Raises OSError."""
    root = os.path.realpath(base)
    there, missing = _split(root, part)
    folder = os.open(root, _FOLDER)
    try:
        folder = _instead(folder, _openat2(folder, _within(root, os.path.realpath(there)), _FOLDER))
        for name in missing:
            os.mkdir(name, mode & ~_UMASK, dir_fd=folder)
            folder = _instead(folder, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder))
        if missing:
            os.fchmod(folder, stat.S_IMODE(mode))
    finally:
        os.close(folder)


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new


def _within(root: str, real: str) -> str:
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise OSError(errno.EXDEV, "leads out of the volume", real)
    return os.path.relpath(real, root)


def _split(root: str, part: str) -> tuple[str, list[str]]:
    """What of ``part`` is there, and the names still to be made. A link that leads nowhere counts as there."""
    names = [name for name in part.split("/") if name not in ("", ".")]
    there = root
    for index, name in enumerate(names):
        step = os.path.join(there, name)
        if not os.path.lexists(step):
            return there, names[index:]
        there = step
    return there, []
