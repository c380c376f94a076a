"""fsGroup: everything in a volume belongs to a group that may read it (and write it, where the volume may be written).

Folders also get the setgid bit, so that what is made in them later belongs to the group too. Links are given to the
group, not what they lead to. With the policy OnRootMismatch the walk is left out when the top has all that already. Source: "Configure volume permission and ownership change policy for Pods".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bamikube.nodeagent.volumes.payload import File

_WRITE = 0o660
_READ = 0o440
_FOLDER = stat.S_ISGID | 0o110


def readable(files: Mapping[str, File]) -> dict[str, File]:
    """The modes that written files have once they were given to a group."""
    return {path: replace(file, mode=file.mode | _READ) for path, file in files.items()}


def given(root: Path, group: int) -> bool:
    """Whether the top of a volume is the group's already, with all it may do: then what is below is, too."""
    info = root.stat()
    wanted = _WRITE | _FOLDER
    return info.st_gid == group and info.st_mode & wanted == wanted


def give(root: Path, group: int, *, read_only: bool = False) -> None:
    """Walk through ``root`` and give everything in it to ``group``."""
    _give(root, group, read_only)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            _give(Path(folder, name), group, read_only)


def _give(path: Path, group: int, read_only: bool) -> None:
    try:
        os.chown(path, -1, group, follow_symlinks=False)
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            return
        bits = (_READ if read_only else _WRITE) | (_FOLDER if stat.S_ISDIR(info.st_mode) else 0)
        if info.st_mode & bits != bits:
            path.chmod(stat.S_IMODE(info.st_mode) | bits)
    except FileNotFoundError:
        return  # gone while we walked: somebody else uses the volume too
