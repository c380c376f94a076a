"""A file-system layer: a tar whose bytes depend on nothing but its content.

Entries are sorted, belong to root, and carry one fixed time, so the same recipe gives the same digest on every
machine and day. Layers are not compressed: they travel over loopback, and unpacking a gzip costs more than reading.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# 2020-01-01T00:00:00Z: every file of every image has this time.
FIXED_TIME = 1577836800


@dataclass(frozen=True, slots=True)
class File:
    """A file made by a recipe. ``mode`` are permission bits."""

    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to ``target``."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    mode: int = 0o755


Entry = File | Link | Directory


@dataclass(slots=True)
class Layer:
    """What a layer holds: path without a leading slash -> entry. Parent directories are added by themselves."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, entries: Mapping[str, Entry]) -> None:
        self.entries.update({path.strip("/"): entry for path, entry in entries.items()})

    def add_tree(self, root: Path, skip: tuple[str, ...] = ()) -> None:
        """Everything below ``root`` but paths that start with one of ``skip``. Devices and sockets are left out."""
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(folders + files):
                path = Path(folder, name)
                inside = str(path.relative_to(root))
                if inside.startswith(skip):
                    continue
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    self.entries[inside] = Link(os.readlink(path))
                elif stat.S_ISDIR(mode):
                    self.entries.setdefault(inside, Directory(stat.S_IMODE(mode)))
                elif stat.S_ISREG(mode):
                    self.entries[inside] = File(path.read_bytes(), stat.S_IMODE(mode))

    def tar(self) -> bytes:
        """The layer's bytes."""
        entries = dict(self.entries)
        for path in self.entries:
            for parent in Path(path).parents:
                if str(parent) != ".":
                    entries.setdefault(str(parent), Directory())
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(entries):
                entry = entries[path]
                info = tarfile.TarInfo(path)
                info.mtime = FIXED_TIME
                if isinstance(entry, File):
                    info.size, info.mode = len(entry.data), entry.mode
                    archive.addfile(info, io.BytesIO(entry.data))
                elif isinstance(entry, Link):
                    info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
                    archive.addfile(info)
                else:
                    info.type, info.mode = tarfile.DIRTYPE, entry.mode
                    archive.addfile(info)
        return out.getvalue()
