"""Files that change all at once.

A volume's folder looks like this, and a reader who goes through ``key`` never sees a mixture of old and new::

    ..2026_01_02_03_04_05.1/key      the files of one version
    ..data -> ..2026_01_02_03_04_05.1
    key -> ..data/key

An update writes a new version beside the old one and renames a new ``..data`` link over the old link, which the
kernel does in one step. Then links of keys that are gone are removed, and the old version with them. What a crash
left half done (a version nobody points to) is removed by the next update.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bamikube.nodeagent.volumes.payload import File

DATA = "..data"
_NEXT = "..data_tmp"


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


def write(
    folder: Path, files: Mapping[str, File], version: str, *, settle: Callable[[], None] = lambda: None
) -> bool:
    """Make ``folder`` hold exactly ``files``. False when it already did. ``version`` must be new for each change.

    ``settle`` is called when the new version is complete and nobody sees it yet.
    """
    wanted = {path: File(file.data, file.mode) for path, file in files.items()}
    if current(folder) == wanted:
        return False
    target = folder / f"..{version}"
    target.mkdir(mode=0o755, parents=True)
    target.chmod(0o755)
    for relative, file in files.items():
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
        if file.owner is not None:
            os.chown(path, file.owner, -1)
    settle()
    fresh = folder / _NEXT
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.rename(folder / DATA)
    tops = {relative.split("/")[0] for relative in wanted}
    for top in tops:
        user = folder / top
        if not user.is_symlink():
            if user.is_dir():
                user.rmdir()  # made for a subPath when there was no such key yet
            user.symlink_to(f"{DATA}/{top}")
    for entry in folder.iterdir():
        if not entry.name.startswith(".."):
            if entry.name not in tops and entry.is_symlink():
                entry.unlink()
        elif entry.is_dir() and not entry.is_symlink() and entry.name != target.name:
            shutil.rmtree(entry)
    return True
