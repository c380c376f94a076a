"""Files that change all at once.

A volume's folder looks like this, and a reader who goes through ``key`` never sees a mixture of old and new::

    ..2026_01_02_03_04_05.1/key      the files of one version
    ..data -> ..2026_01_02_03_04_05.1
    key -> ..data/key

An update writes a new version beside the old one and renames a new ``..data`` link over the old link, which the
kernel does in one step. Then links of keys that are gone are removed, and the old version with them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bamikube.nodeagent.volumes.payload import File

DATA = "..data"


def current(folder: Path) -> dict[str, File] | None:
    """What the volume holds now, None if it has never been written."""
    link = folder / DATA
    if not link.is_symlink():
        return None
    root = folder / os.readlink(link)
    found: dict[str, File] = {}
    for path in root.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(root))] = File(path.read_bytes(), path.stat().st_mode & 0o7777)
    return found


def write(folder: Path, files: Mapping[str, File], version: str, *, gid: int | None = None) -> bool:
    """Make ``folder`` hold exactly ``files``. False when it already did. ``version`` must be new for each change."""
    wanted = dict(files)
    if gid is not None:  # fsGroup: the group owns the files and may read them
        wanted = {path: File(f.data, f.mode | 0o040) for path, f in files.items()}
    if current(folder) == wanted:
        return False
    target = folder / f"..{version}"
    target.mkdir(mode=0o755, parents=True)
    target.chmod(0o755)
    for relative, file in wanted.items():
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(file.mode)
    link, fresh = folder / DATA, folder / "..data_tmp"
    old = folder / os.readlink(link) if link.is_symlink() else None
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.rename(link)
    tops = {relative.split("/")[0] for relative in wanted}
    for top in tops:
        user = folder / top
        if not user.is_symlink():
            user.symlink_to(f"{DATA}/{top}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old is not None and old.exists():
        shutil.rmtree(old)
    return True
