"""Control groups of a node: one parent a node, on version 1 and version 2 machines.

``/bamikube/<node>`` is the node's root; its services live in ``/bamikube/<node>/system``, its pods in what the node
agent makes beside that. On version 2 a group with processes cannot have controllers for children, which is
why the services get a group of their own.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def is_v2(root: Path = ROOT) -> bool:
    """Whether the machine uses the unified hierarchy only."""
    return (root / "cgroup.controllers").is_file()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Every mounted hierarchy: one on version 2, one for each controller on version 1."""
    if is_v2(root):
        return [root]
    found = [
        path for path in sorted(root.iterdir()) if (path / "cgroup.procs").is_file() and not path.is_symlink()
    ]
    return found


def create(path: str, root: Path = ROOT) -> None:
    """Make the group ``path`` (``bamikube/master``) in every hierarchy, able to hold children."""
    for hierarchy in hierarchies(root):
        group = hierarchy
        for part in path.split("/"):
            if is_v2(root):
                _delegate(group)
            elif (group / "memory.use_hierarchy").is_file():
                with contextlib.suppress(OSError):
                    (group / "memory.use_hierarchy").write_text("1")
            group = group / part
            group.mkdir(exist_ok=True)
            _inherit_cpuset(group)
    if is_v2(root):
        _delegate(root / path)


def _delegate(group: Path) -> None:
    """Turn on all controllers for the children of a version 2 group; those that cannot are left."""
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(group: Path) -> None:
    """A new version 1 cpuset is empty and accepts no process until it has its parent's cores and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file, parent = group / name, group.parent / name
        if file.is_file() and parent.is_file() and not is_v2() and not file.read_text().strip():
            with contextlib.suppress(OSError):
                file.write_text(parent.read_text())


def join(path: str, pid: int, root: Path = ROOT) -> None:
    """Move a process into the group ``path`` of every hierarchy."""
    for hierarchy in hierarchies(root):
        with contextlib.suppress(OSError):
            (hierarchy / path / "cgroup.procs").write_text(str(pid))


def processes(path: str, root: Path = ROOT) -> set[int]:
    """Processes anywhere below the group, as seen from the machine."""
    found: set[int] = set()
    for hierarchy in hierarchies(root):
        for folder, _, _ in os.walk(hierarchy / path):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
    return found


def remove(path: str, root: Path = ROOT) -> list[Path]:
    """Remove the group and all below it; returns the folders that would not go (still in use)."""
    left: list[Path] = []
    for hierarchy in hierarchies(root):
        for folder, _, _ in os.walk(hierarchy / path, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                left.append(Path(folder))
    return left


def existing(path: str, root: Path = ROOT) -> list[Path]:
    """Where the group exists."""
    return [hierarchy / path for hierarchy in hierarchies(root) if (hierarchy / path).is_dir()]
